# Surroundings that an allocator is not used to, and programs of this folder.

check threads-many 120 gcc <<'BASH'
"$bin/threads" many 1000
BASH
check threads-storm 120 gcc <<'BASH'
"$bin/threads" storm 40000
BASH
check threads-forks 240 gcc <<'BASH'
"$bin/threads" forks 400
BASH

check threads-cancelled 120 gcc <<'BASH'
for _ in 1 2 3; do "$bin/cancelled"; done
BASH
check cancelled-at-a-limit 400 gcc <<'BASH'
TENZOR_LIMIT=5M TENZOR_QUIET=1 "$bin/cancelled"
TENZOR_LIMIT=5M "$bin/cancelled" 2>/dev/null
BASH

# Those of the library's own tests, ten times as long. They preload it by themselves.
check storms 3000 gcc <<'BASH'
[ -n "$LD_PRELOAD" ] || exit 0
unset LD_PRELOAD
export HOME=$(getent passwd "$(id -u)" | cut -d: -f6) TENZOR_LONG=1
cd "$here/../../../crates/preload"
cargo test --release --quiet storms >/dev/null
BASH

# The library comes when the program has a heap already.
check loaded-late 60 gcc <<'BASH'
env -u LD_PRELOAD "$bin/loads" late "$library"
env -u LD_PRELOAD "$bin/loads" late "$library" global
BASH
check loaded-deep 60 gcc <<'BASH'
"$bin/loads" deep "$bin/plugin.so"
BASH
check loaded-apart 60 gcc <<'BASH'
"$bin/loads" apart
BASH

# Others' preloads before and after it.
check other-preloads 120 libfaketime libeatmydata1 libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 coreutils <<'BASH'
libraries=/usr/lib/x86_64-linux-gnu
for other in faketime/libfaketime.so.1 faketime/libfaketimeMT.so.1 libeatmydata.so.1 libjemalloc.so.2 libtcmalloc_minimal.so.4 libmimalloc.so.2; do
    other=$libraries/$other
    for order in "${LD_PRELOAD:-} $other" "$other ${LD_PRELOAD:-}"; do
        env LD_PRELOAD="$order" FAKETIME='@2020-01-01 00:00:00' TENZOR_QUIET=1 "$bin/threads" many 50
        env LD_PRELOAD="$order" FAKETIME='@2020-01-01 00:00:00' TENZOR_QUIET=1 perl -e 'my @x = map { "x" x ($_ % 1000) } 1..50000; print scalar(@x), "\n"; my $p = fork; exit 0 unless $p; waitpid $p, 0; print $?, "\n"'
        env LD_PRELOAD="$order" FAKETIME='@2020-01-01 00:00:00' TENZOR_QUIET=1 sort /etc/passwd | stdbuf -o0 cksum
    done
done
BASH
check wrapped-calls 60 gcc coreutils <<'BASH'
for order in "${LD_PRELOAD:-} $bin/plugin-wraps.so" "$bin/plugin-wraps.so ${LD_PRELOAD:-}"; do
    env LD_PRELOAD="$order" "$bin/threads" many 20
    env LD_PRELOAD="$order" "$bin/threads" forks 5
    env LD_PRELOAD="$order" sort /etc/passwd | cksum
done
BASH
check fakeroot 60 fakeroot <<'BASH'
fakeroot sh -c 'touch a; chown 7:7 a; stat -c %u a; tar cf - a | tar tvf - | cut -c1-20'
BASH

# The loader leaves it out where a file's owner lends its rights.
check set-user-id 60 passwd util-linux coreutils <<'BASH'
cp "$(command -v id)" own-id
chmod u+s own-id
if [ "$(id -u)" = 0 ]; then setpriv --reuid nobody --regid nogroup --clear-groups ./own-id -u; else ./own-id -u; fi
su "$(id -un)" -s /bin/sh -c 'echo in' </dev/null
BASH
check other-user 60 util-linux <<'BASH'
[ "$(id -u)" != 0 ] || setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs --bounding-set=-all sort /etc/passwd | cksum
BASH

# Limits of the process's, layouts of its addresses.
check limits 120 perl util-linux gcc <<'BASH'
for limit in '-v 400000' '-v 4000000' '-d 200000' '-s unlimited' '-s 256' '-l 64' '-n 16' '-u 4000'; do
    (ulimit $limit; echo "$limit"; perl -e 'my @x = map { "x" x ($_ % 3000) } 1..20000; print scalar(@x), "\n"'; sort /etc/passwd | cksum; "$bin/threads" storm 80)
done
for layout in -R -L -X -B; do
    setarch x86_64 $layout "$bin/threads" many 50
    setarch x86_64 $layout perl -e 'my @x = map { "x" x ($_ % 3000) } 1..20000; print scalar(@x), "\n"'
done
# A limit that is met: a refusal, and no more.
(ulimit -v 300000; perl -e 'my $x = "x" x 1000000000; print length $x' 2>said || echo "refused"; grep -c 'Out of memory' said)
BASH
check namespaces 60 bubblewrap util-linux <<'BASH'
bwrap --ro-bind / / --tmpfs /proc --unshare-all "$bin/threads" many 20
bwrap --ro-bind / / --dev /dev --unshare-all sort /etc/passwd | cksum
BASH
check linked-otherwise 120 gcc busybox-static <<'BASH'
busybox sh -c 'echo static'
printf '#include <stdio.h>\n#include <stdlib.h>\nint main() { void *b[1000]; for (int i = 0; i < 1000; i++) b[i] = malloc(i * 100); for (int i = 0; i < 1000; i++) free(b[i]); puts("fine"); }\n' >a.c
for how in -static -no-pie -static-pie '-Wl,-z,now' '-mcmodel=medium' -pg '-fsanitize=undefined'; do
    gcc -w $how -o a a.c
    ./a
done
BASH

# Tools that look into processes.
check debugger 90 gdb gcc <<'BASH'
gdb -q -batch -ex 'break main' -ex run -ex 'call (long)malloc(100) != 0' -ex 'call (void)free((void *)malloc(10))' -ex 'print "a text of the debugger"[3]' -ex delete -ex continue \
    --args "$bin/loads" deep "$bin/plugin.so" 2>/dev/null | grep -aoE '^\$[0-9]+ = .*|exited normally'
gdb -q -batch -ex run --args sort /etc/passwd 2>/dev/null | grep -aoE 'exited normally'
BASH
check tracers 120 strace ltrace gcc <<'BASH'
strace -f -o trace "$bin/threads" many 20
strace -f -o trace "$bin/threads" forks 5
ltrace -f -o trace -e malloc+free+fork "$bin/loads" deep "$bin/plugin.so" | head -1
BASH
check valgrind 180 valgrind gcc <<'BASH'
valgrind -q --error-exitcode=9 "$bin/threads" storm 64
valgrind -q --error-exitcode=9 "$bin/loads" deep "$bin/plugin.so"
valgrind -q --tool=callgrind --callgrind-out-file=/dev/null sort /etc/passwd | cksum
BASH
check emulator 120 qemu-user gcc <<'BASH'
qemu-x86_64 "$bin/threads" many 10
qemu-x86_64 "$(command -v sort)" /etc/passwd | cksum
BASH
