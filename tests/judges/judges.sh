# Running each judge. What it finds goes to the file "$1", a line for each difference, without what
# changes from run to run (process ids, times).

# Random reads, writes, truncations, closes and syncs of one file, compared with what must be there.
judge_fsx() {
    local seed
    make_folder fsx
    for seed in 1 2 3 4 5; do
        if ! timeout -k 10 180 setpriv --reuid "$judge_user" --regid "$judge_user" --clear-groups \
            "$JUDGES/bin/fsx" -f "$here/fsx.toml" -N 2000 -S "$seed" -P "$work" \
            "$point/$judge_slug/fsx/file-$seed" >"$work/fsx-$seed.log" 2>&1; then
            echo "seed $seed: $(grep -m 1 . "$work/fsx-$seed.log")" >>"$1"
        fi
    done
}

judge_test_syscalls() {
    make_folder test_syscalls
    timeout -k 10 120 setpriv --reuid "$judge_user" --regid "$judge_user" --clear-groups \
        "$JUDGES/bin/test_syscalls" "$point/$judge_slug/test_syscalls" >"$work/syscalls.log" 2>&1 || true
    grep -q 'tests failed$' "$work/syscalls.log" || echo "it did not come to its end" >>"$1"
    # In a folder where no test before it has left anything.
    make_folder seekdir
    # The exit code tells nothing if one test alone is asked for.
    as_judge timeout -k 10 60 "$JUDGES/bin/test_syscalls" "$point/$judge_slug/seekdir" 12 \
        >"$work/seekdir.log" 2>&1 || true
    grep -q '\[seekdir\] OK' "$work/seekdir.log" || echo "seekdir fails where nothing was left" >>"$1"
    # ` 12 [rename] st_check_size() - length 26 instead of 0`
    sed -nE 's/^ *[0-9]+ (\[.*\] .*\(\) - .*)$/\1/p' "$work/syscalls.log" |
        sed -E 's/time [0-9]{6,}/time NOW/' >>"$1"
}

# As root: it becomes other users by itself. Root is an admin here.
judge_pjdfstest() {
    local area="$point/pjdfstest"
    mkdir "$area"
    echo x >"$area/keep"
    timeout -k 10 300 "$JUDGES/bin/pjdfstest" -c "$here/pjdfstest.toml" -p "$area" \
        open:: unlink:: rename:: truncate:: ftruncate:: mkdir:: rmdir:: >"$work/pjdfstest.log" 2>&1 || true
    grep -q 'total$' "$work/pjdfstest.log" || echo "it did not come to its end" >>"$1"
    sed -nE 's/\x1b\[[0-9;]*m//g; s/^([^ ]+) +FAILED$/\1/p' "$work/pjdfstest.log" >>"$1"
}

# Each for some seconds, as two processes; with sizes that a value may have.
judge_stress_ng() {
    local stressor options log
    make_folder stress
    for stressor in open fstat mmapfork filename dentry rename seek touch access hdd; do
        case $stressor in
            seek) options=(--seek-size 1M) ;;
            hdd) options=(--hdd-bytes 1M) ;;
            filename) options=(--filename-opts posix) ;;
            *) options=() ;;
        esac
        log=$work/stress-$stressor.log
        if ! (cd / && timeout -k 10 $((SECONDS_EACH + 60)) \
            setpriv --reuid "$judge_user" --regid "$judge_user" --clear-groups \
            stress-ng --"$stressor" 2 "${options[@]}" --timeout "$SECONDS_EACH" --verify \
            --temp-path "$point/$judge_slug/stress" >"$log" 2>&1) && ! grep -q 'fail:' "$log"; then
            echo "$stressor: $(tail -n 1 "$log")" >>"$1"
        fi
        # `stress-ng: fail:  [14591] seek: write failed, errno=27 (File too large), filesystem type: fuse`
        sed -nE 's/^stress-ng: (fail|error): +\[[0-9]+\] //p' "$log" |
            grep -v '^process \[' | sed -E 's/[0-9]+/N/g' >>"$1" || true
        check_daemon "stress-ng's $stressor"
    done
}
