#!/usr/bin/env bash
# All that needs a GPU, within nine minutes: build, contract, compute-sanitizer, benchmarks, one short table.
# Results go to $OUT (default bench/results). Needs no network; nothing of the machine is changed.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-bench/results}
python=${PYTHON:-python3}
mkdir -p "$out"
export FASTTRACK_REQUIRE=cpu,triton,cuda PYTHONPATH=$PWD
began=$SECONDS
limit=${LIMIT_S:-540}
failed=()

# step NAME SECONDS COMMAND…: run with what is left of the time, keep the output, remember a failure.
step() {
  local name=$1 most=$2 left=$((limit - (SECONDS - began)))
  shift 2
  if [ "$left" -lt 15 ]; then
    failed+=("$name: no time left")
    return 1
  fi
  [ "$most" -lt "$left" ] || most=$left
  local start=$SECONDS
  if timeout --signal=INT --kill-after=10 "$most" "$@" >"$out/$name.log" 2>&1; then
    echo "ok      $name ($((SECONDS - start)) s)"
  else
    local code=$?
    failed+=("$name: exit $code")
    echo "FAILED  $name (exit $code, $((SECONDS - start)) s)"
    tail -n 15 "$out/$name.log"
    return 1
  fi
}

step build 150 "$python" setup.py -q build_ext --inplace || exit 1
ln -sfn ../kernels fasttrack/kernels
step doctor 60 "$python" -m fasttrack.cli doctor
pytest=("$python" -c "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))" -q -p no:cacheprovider)
step contract_triton 150 "${pytest[@]}" tests/test_ops_contract.py -k triton
step contract_cuda 120 "${pytest[@]}" tests/test_ops_contract.py tests/test_*_cuda.py -k cuda
# The same kernels through CuPy's NVRTC, as where nvcc is missing.
step contract_nvrtc 90 env FASTTRACK_CUDA=nvrtc "${pytest[@]}" tests/test_*_cuda.py
step graphs 90 "${pytest[@]}" tests/test_torch_citizens.py -k cuda_graphs
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    step "sanitizer_$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 7 "$python" bench/correct.py cuda
  done
else
  echo "no compute-sanitizer here: not run"
fi
step benchmarks 200 "$python" bench/run.py --device cuda --budget 0.5 --out "$out/cuda.json"
grep -h ' ms ' "$out/benchmarks.log" | cut -c1-230
printf '%s\n' "${failed[@]:-all steps passed}"
[ "${#failed[@]}" -eq 0 ]
