# Getting the judges. Versions are fixed: a newer one may have other opinions.

fsx_version=0.3.2
pjdfstest_version=0.2.2
# Its main branch in August 2026.
libfuse_commit=e8d407ce93bf0d87efe7bbfafdfbd3c471597a02

# Whether a judge is there, after having tried to get it.
have() {
    case $1 in
        fsx)
            [ -x "$JUDGES/bin/fsx" ] ||
                cargo install fsx --version "$fsx_version" --locked --root "$JUDGES"
            ;;
        pjdfstest) [ -x "$JUDGES/bin/pjdfstest" ] || build_pjdfstest ;;
        test_syscalls) [ -x "$JUDGES/bin/test_syscalls" ] || build_test_syscalls ;;
        stress-ng)
            command -v stress-ng ||
                DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends stress-ng
            ;;
    esac
}

# It works in folders called `.tmp…`, which here are no folders; in one that it empties, which ends
# with that; and wants to open that to all, which nobody may. Nothing of this is what it tests.
build_pjdfstest() {
    local source="$JUDGES/pjdfstest"
    rm -rf "$source" && mkdir -p "$source/fetch/src" || return
    printf '%s\n' '[package]' 'name = "fetch"' 'version = "0.0.0"' 'edition = "2021"' '[lib]' \
        'path = "src/lib.rs"' '[dependencies]' "pjdfstest = \"=$pjdfstest_version\"" \
        >"$source/fetch/Cargo.toml"
    : >"$source/fetch/src/lib.rs"
    (cd "$source/fetch" && cargo vendor --quiet "$source/vendor" >/dev/null) || return
    local main="$source/vendor/pjdfstest/src/main.rs"
    [ -e "$main" ] || return
    rm -f "$source/vendor/pjdfstest/.cargo-checksum.json"
    sed -i -e 's|tempdir_in(path)?;|named(path.as_ref())?; std::fs::write(base_dir.path().join("keep"), "x")?;|' \
        -e 's|tempdir_in(base_dir.path()).unwrap()|named(base_dir.path()).unwrap()|' \
        -e 's|chmod(temp_dir.path(), Mode::from_bits_truncate(0o755)).unwrap();|let _ = chmod(temp_dir.path(), Mode::from_bits_truncate(0o755));|' \
        -e 's|use tempfile::{tempdir_in, TempDir};|use tempfile::TempDir;|' "$main" || return
    cat >>"$main" <<'RUST'

fn named(path: &std::path::Path) -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("pjdfstest-").tempdir_in(path)
}
RUST
    cargo install --path "$source/vendor/pjdfstest" --locked --root "$JUDGES"
}

# Without its checks of permission bits: a secret shows 0400 and a folder 0555, whatever it was made
# with, and nearly every test would end there.
build_test_syscalls() {
    local source="$JUDGES/libfuse"
    rm -rf "$source" && mkdir -p "$source" "$JUDGES/bin" || return
    git -C "$source" init --quiet || return
    git -C "$source" fetch --quiet --depth 1 "$LIBFUSE_SOURCE" "$libfuse_commit" || return
    git -C "$source" show FETCH_HEAD:test/test_syscalls.c |
        sed 's/^static int st_check_mode(/static int without_modes(/' >"$source/test_syscalls.c" || return
    : >"$source/fuse_config.h"
    cc -O1 -w -DHAVE_STATX -DHAVE_COPY_FILE_RANGE '-Dst_check_mode(st, mode)=0' -I"$source" \
        -o "$JUDGES/bin/test_syscalls" "$source/test_syscalls.c"
}
