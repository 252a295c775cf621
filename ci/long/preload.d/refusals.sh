# A system that refuses calls: each call of a program's to the system about memory fails once, and in other runs all from it on. It may go on, or end for want of memory by its
# own decision; it may not be ended by a signal without a line of ours or its own, hang, or lose what it had stored.

refusals() {
    local name=$1 seconds=$2 call=$3 error=$4 forms=$5 calls first=0 every form code bad=0 tried=0
    shift 5
    chosen "$name" || return 0
    if ! install strace gcc || ! strace -qq -o "$work/trace" true 2>/dev/null; then
        skip "not tried: $name, as strace cannot be had or not trace"
        return
    fi
    # The loader has no way to go on without its own: it is left out, until the library begins.
    strace -f -qq -E LD_PRELOAD="$library" -o "$work/trace" -e trace="$call,sched_getaffinity" "$@" >/dev/null 2>&1 || true
    first=$(sed '/sched_getaffinity(/q' "$work/trace" | grep -c " $call(" || true)
    calls=$(grep -c " $call(" "$work/trace" || true)
    # Not all of thousands, which are alike.
    every=$(((calls - first) / 60 + 1))
    for form in $forms; do
        form=${form#once}
        for ((k = first + 1; k <= calls; k += every)); do
            code=0
            # What the shell says of signals is not wanted.
            { timeout -k 2 "$seconds" strace -f -qq -E LD_PRELOAD="$library" -o /dev/null -e trace="$call" -e inject="$call:error=$error:when=$k$form" "$@" \
                >"$work/out" 2>"$work/err" 9>&- || code=$?; } 2>/dev/null
            tried=$((tried + 1))
            case $code in
            0) [ "$(tail -1 "$work/out")" = fine ] && continue ;;
            1 | 2 | 127) continue ;;
            134) grep -aqE '^tenzor: |^Fatal Python error|MemoryError|bad_alloc|cannot allocate' "$work/err" && continue ;;
            esac
            echo "$name: $call number $k$form: ends with $code: $(head -c 200 "$work/err" | tr '\n' '|')"
            cp "$work/err" "$log/$name-$call-$k$form.err"
            bad=1
        done
    done
    if [ $bad = 1 ]; then
        fail "$name"
    elif [ $tried = 0 ]; then
        skip "not applicable: $name, as there are no such calls"
    else
        echo "ok: $name, $tried times"
        passed=$((passed + 1))
    fi
}

for refusal in mmap=ENOMEM munmap=ENOMEM munmap=EINVAL madvise=EINVAL madvise=EAGAIN mremap=ENOMEM mremap=EFAULT mprotect=ENOMEM mincore=ENOSYS brk=ENOMEM clone3=EAGAIN; do
    refusals "refused-$refusal" 20 "${refusal%=*}" "${refusal#*=}" 'once +' "${bin:-}/refused"
done
# Python itself crashes, under every allocator, where nothing at all is granted from some call on.
interpreter=$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))' 2>/dev/null || true)
for refusal in mmap=ENOMEM munmap=ENOMEM mremap=ENOMEM madvise=ENOMEM; do
    [ -z "$interpreter" ] || refusals "refused-python-$refusal" 30 "${refusal%=*}" "${refusal#*=}" once "$interpreter" -S -E "$here/refused.py"
done
