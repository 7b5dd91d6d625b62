// Windows of a frame to brightness to a filter's response, or into the filter: the kernels of these steps one after
// the other, in memory of their own, so that a frame costs two calls.
#include "grey_filter.h"

#include "cpu/scratch.h"
#include "grey.h"
#include "response_peak.h"

namespace ft {
namespace FT_ISA {

void cf_detect(const CfDetectArgs&);
void cf_train(const CfTrainArgs&);
void crop_resize(const CropResizeArgs&);
void grey(const GreyArgs&);
void response_peak(const ResponsePeakArgs&);

namespace {

struct Maps {
  float *patches, *cells;
  Maps(const CropResizeArgs& crop, const CfMaps& maps, Carver& c)
      : patches(c.take<float>(crop.count * crop.channels * crop.out_h * crop.out_w)),
        cells(c.take<float>(crop.count * maps.height * maps.width)) {}
};

// The windows as (T, S, 1, H, W) in memory; what the filter reads.
CfMaps seen(const CropResizeArgs& windows, int64_t cell, const CfMaps& like, const Maps& memory) {
  constexpr float kGain[] = {1.0f, 1.0f, 1.0f}, kOffset[] = {0.0f, 0.0f, 0.0f};
  CropResizeArgs crop = windows;
  crop.gain = kGain, crop.offset = kOffset, crop.out = memory.patches;
  crop_resize(crop);
  const int64_t plane = crop.out_h * crop.out_w, cells = like.height * like.width;
  grey({crop.out, crop.count, crop.channels, crop.out_h, crop.out_w, crop.channels * plane, plane, crop.out_w, cell,
        memory.cells});
  CfMaps maps = like;
  maps.features = memory.cells;
  maps.stride_target = maps.scales * cells, maps.stride_scale = maps.stride_channel = cells;
  maps.stride_row = maps.width;
  return maps;
}

}  // namespace

void grey_detect(const GreyDetectArgs& a) {
  if (a.crop.count == 0) return;
  PerThread<Maps, false> memory(1, a.crop, a.filter.maps);
  CfDetectArgs filter = a.filter;
  filter.maps = seen(a.crop, a.cell, a.filter.maps, memory.of(0, a.crop, a.filter.maps));
  cf_detect(filter);
  const int64_t height = filter.maps.height, width = filter.maps.width;
  response_peak({filter.response, a.crop.count, height, width, height * width, width, a.table});
}

void grey_learn(const GreyLearnArgs& a) {
  if (a.crop.count == 0) return;
  PerThread<Maps, false> memory(1, a.crop, a.filter.maps);
  CfTrainArgs filter = a.filter;
  filter.maps = seen(a.crop, a.cell, a.filter.maps, memory.of(0, a.crop, a.filter.maps));
  cf_train(filter);
}

}  // namespace FT_ISA
}  // namespace ft
