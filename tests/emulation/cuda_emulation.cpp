// The scheduler of the emulation: fibers of one block at a time, or of all blocks of a cooperative grid.
#include "cuda_emulation.h"

#include <ucontext.h>

#include <memory>
#include <string>
#include <vector>

#include "cuda/api.h"

// What all `__shared__` variables of the kernels occupy; one of our own, so that the section exists.
static __attribute__((section("ft_shared"), used)) unsigned char ft_shared_first[16];
extern unsigned char __start_ft_shared[], __stop_ft_shared[];

namespace ft_emulation {

const Place* here = nullptr;

namespace {

constexpr std::size_t kStack = 256 * 1024, kGuard = 4096, kIdleRounds = 1000;
constexpr unsigned char kPoison = 0xff;  // floats of it are NaN

enum class State { Ready, AtBlock, AtWarp, Paused, Done };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<unsigned char[]> stack;
  Place place;
  State state;
};

struct Block {
  std::vector<Fiber*> fibers;
  std::vector<unsigned char> image, dynamic;
  std::vector<uint64_t> slots;
};

struct Kernel {
  const char* name;
  void (*run)(const void*);
  std::size_t argument_bytes;
};

const Kernel kKernels[] = {
#define FT_ROW(name, Args) {#name, [](const void* args) { ft_##name(*static_cast<const Args*>(args)); }, sizeof(Args)},
    FT_CUDA_KERNELS(FT_ROW)
#undef FT_ROW
};

ucontext_t scheduler;
Fiber* running = nullptr;
Block* block = nullptr;
const Kernel* kernel = nullptr;
const void* arguments = nullptr;
std::string error;
std::vector<std::unique_ptr<Fiber>> pool;

void wait_as(State state) {
  Fiber* self = running;
  self->state = state;
  swapcontext(&self->context, &scheduler);
}

// A fiber outlives its kernel: it waits for the next thread to be.
void fiber_main() {
  for (;;) {
    try {
      kernel->run(arguments);
    } catch (const char* what) {
      error = what;
    }
    wait_as(State::Done);
  }
}

Fiber* fiber(std::size_t index) {
  while (pool.size() <= index) {
    auto one = std::make_unique<Fiber>();
    one->stack.reset(new unsigned char[kStack]);
    getcontext(&one->context);
    one->context.uc_stack.ss_sp = one->stack.get();
    one->context.uc_stack.ss_size = kStack;
    makecontext(&one->context, fiber_main, 0);
    pool.push_back(std::move(one));
  }
  return pool[index].get();
}

void resume(Fiber* one) {
  running = one;
  here = &one->place;
  one->state = State::Ready;
  swapcontext(&scheduler, &one->context);
}

// Fibers that all wait at one barrier go on; an exited thread cannot be waited for within its warp.
bool release(std::vector<Fiber*>& fibers) {
  bool any = false, all = true;
  for (const Fiber* f : fibers) {
    all = all && (f->state == State::AtBlock || f->state == State::Done);
    any = any || f->state == State::AtBlock;
  }
  if (any && all) {
    for (Fiber* f : fibers) {
      if (f->state == State::AtBlock) f->state = State::Ready;
    }
    return true;
  }
  bool released = false;
  for (std::size_t first = 0; first < fibers.size(); first += 32) {
    const std::size_t last = first + 32 < fibers.size() ? first + 32 : fibers.size();
    bool warp = true;
    for (std::size_t i = first; i < last; ++i) warp = warp && fibers[i]->state == State::AtWarp;
    if (!warp) continue;
    for (std::size_t i = first; i < last; ++i) fibers[i]->state = State::Ready;
    released = true;
  }
  return released;
}

void swap_in(Block& next, bool keep) {
  const std::size_t bytes = static_cast<std::size_t>(__stop_ft_shared - __start_ft_shared);
  if (block == &next) return;
  if (block != nullptr && keep) block->image.assign(__start_ft_shared, __stop_ft_shared);
  std::memcpy(__start_ft_shared, next.image.data(), bytes);
  block = &next;
}

// Runs a block as far as it goes alone. Whether anything but paused fibers ran.
bool advance(Block& one, bool backwards) {
  bool progress = false;
  for (Fiber* f : one.fibers) {
    if (f->state == State::Paused) f->state = State::Ready;
  }
  for (bool again = true; again;) {
    again = false;
    for (std::size_t i = 0; i < one.fibers.size(); ++i) {
      Fiber* f = one.fibers[backwards ? one.fibers.size() - 1 - i : i];
      if (f->state != State::Ready) continue;
      resume(f);
      if (!error.empty()) return true;
      progress = progress || f->state != State::Paused;
      again = true;
    }
    again = release(one.fibers) || again;
  }
  return progress;
}

bool finished(const Block& one) {
  for (const Fiber* f : one.fibers) {
    if (f->state != State::Done) return false;
  }
  return true;
}

Block make_block(uint3 index, uint3 size, uint3 grid, std::size_t shared, std::size_t first_fiber) {
  Block made;
  const std::size_t threads = std::size_t{size.x} * size.y * size.z;
  for (std::size_t t = 0; t < threads; ++t) {
    Fiber* f = fiber(first_fiber + t);
    const unsigned int n = static_cast<unsigned int>(t);
    f->place = {{n % size.x, n / size.x % size.y, n / size.x / size.y}, index, size, grid};
    f->state = State::Ready;
    made.fibers.push_back(f);
  }
  made.image.assign(static_cast<std::size_t>(__stop_ft_shared - __start_ft_shared), kPoison);
  made.dynamic.assign(shared + 2 * kGuard + 16, kPoison);
  made.slots.assign((threads + 31) / 32 * 32, 0);
  return made;
}

unsigned char* aligned(Block& one) {
  const auto address = reinterpret_cast<uintptr_t>(one.dynamic.data() + kGuard);
  return reinterpret_cast<unsigned char*>((address + 15) / 16 * 16);
}

void check_guards(Block& one, std::size_t shared) {
  unsigned char* const first = aligned(one);
  for (unsigned char* p = one.dynamic.data(); p != one.dynamic.data() + one.dynamic.size(); ++p) {
    if ((p < first || p >= first + shared) && *p != kPoison) {
      error = "a write outside dynamic shared memory";
      return;
    }
  }
}

void run(std::vector<Block>& blocks, std::size_t shared, bool backwards) {
  block = nullptr;
  for (std::size_t idle = 0; error.empty();) {
    bool progress = false, done = true;
    for (Block& one : blocks) {
      if (finished(one)) continue;
      swap_in(one, true);
      progress = advance(one, backwards) || progress;
      if (!error.empty()) return;
      done = done && finished(one);
    }
    if (done) break;
    idle = progress ? 0 : idle + 1;
    if (idle > kIdleRounds) error = "threads wait for each other: not all of them reach the same barrier";
  }
  for (Block& one : blocks) check_guards(one, shared);
}

}  // namespace

void block_barrier() { wait_as(State::AtBlock); }
void warp_barrier() { wait_as(State::AtWarp); }
void pause() { wait_as(State::Paused); }
unsigned char* dynamic_shared() { return aligned(*block); }
unsigned int lane() {
  const Place& p = *here;
  return (p.thread.x + p.block_size.x * (p.thread.y + p.block_size.y * p.thread.z)) % 32;
}
void* warp_slot(unsigned int of) {
  const Place& p = *here;
  const unsigned int me = p.thread.x + p.block_size.x * (p.thread.y + p.block_size.y * p.thread.z);
  return &block->slots[me / 32 * 32 + of % 32];
}

}  // namespace ft_emulation

using namespace ft_emulation;

// What went wrong, or null. `backwards`: the fibers of a block run from the last to the first.
extern "C" const char* ft_emulate(const char* name, const unsigned int* grid, unsigned int threads,
                                  std::size_t shared_bytes, int cooperative, int backwards, const void* args,
                                  std::size_t bytes) {
  error.clear();
  kernel = nullptr;
  for (const Kernel& k : kKernels) {
    if (std::strcmp(k.name, name) == 0) kernel = &k;
  }
  if (kernel == nullptr) return "no such kernel";
  if (kernel->argument_bytes != bytes) return "arguments of another size";
  arguments = args;
  const uint3 size{threads, 1, 1}, all{grid[0], grid[1], grid[2]};
  std::vector<Block> blocks;
  for (unsigned int z = 0; z < all.z; ++z) {
    for (unsigned int y = 0; y < all.y; ++y) {
      for (unsigned int x = 0; x < all.x && error.empty(); ++x) {
        blocks.push_back(make_block({x, y, z}, size, all, shared_bytes, blocks.size() * threads));
        if (cooperative) continue;
        run(blocks, shared_bytes, backwards != 0);
        blocks.clear();
      }
    }
  }
  if (cooperative) run(blocks, shared_bytes, backwards != 0);
  if (!error.empty()) pool.clear();  // fibers that still wait are dropped with their stacks
  return error.empty() ? nullptr : error.c_str();
}

extern "C" std::size_t ft_argument_bytes(const char* name) {
  for (const Kernel& k : kKernels) {
    if (std::strcmp(k.name, name) == 0) return k.argument_bytes;
  }
  return 0;
}
