#!/usr/bin/env bash
# Builds the fuzz targets with the stable toolchain and libFuzzer's instrumentation, as `cargo fuzz`
# does with a nightly one. `fuzz/build.sh [TARGET...]`; then run `fuzz/target/HOST/release/TARGET`.
set -euo pipefail
cd "$(dirname "$0")"
passes=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
)
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="${passes[*]} -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks --cfg fuzzing"
# With a target, so that build scripts are not instrumented.
host=$(rustc -vV | sed -n 's/^host: //p')
exec cargo build --release --locked --target "$host" "${@/#/--bin=}"
