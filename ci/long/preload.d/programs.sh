# Servers, databases, browsers and tools.

check redis 120 redis-server redis-tools <<'BASH'
redis-server --port 0 --unixsocket $PWD/socket --save '' --dir $PWD --io-threads 2 >server &
trap 'kill $!' EXIT
for _ in $(seq 100); do [ -S socket ] && break; sleep 0.1; done
redis-benchmark -s socket -q -n 20000 -c 50 -t set,get,lpush,lrange_100,sadd,hset,mset >bench
redis-benchmark -s socket -q -n 3000 -d 100000 -r 100 -t set,get >>bench
redis-cli -s socket debug populate 100000 key 100
redis-cli -s socket bgsave
sleep 2
redis-cli -s socket dbsize | awk '{ print ($1 > 100000) }'
redis-cli -s socket config set activedefrag yes >defragments || true
redis-cli -s socket memory purge
redis-cli -s socket flushall
BASH

check memcached 60 memcached python3 <<'BASH'
memcached -u "$(id -un)" -s $PWD/socket -t 4 &
trap 'kill $!' EXIT
for _ in $(seq 100); do [ -S socket ] && break; sleep 0.1; done
python3 - <<'PY'
import socket
connection = socket.socket(socket.AF_UNIX)
connection.connect("socket")
file = connection.makefile("rwb")
for i in range(20000):
    file.write(b"set k%d 0 0 %d\r\n" % (i % 500, i % 900) + b"x" * (i % 900) + b"\r\n")
    file.flush()
    assert file.readline() == b"STORED\r\n"
print("stored")
PY
BASH

check postgres 240 postgresql postgresql-contrib <<'BASH'
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
user=()
[ "$(id -u)" != 0 ] || { user=(setpriv --reuid nobody --regid nogroup --clear-groups); chown nobody .; }
"${user[@]}" $bin/initdb -D data -A trust -U me >made
"${user[@]}" $bin/pg_ctl -D data -w -l server -o "-k $PWD -c listen_addresses=" start >started
trap '"${user[@]}" $bin/pg_ctl -D data -m immediate stop >/dev/null' EXIT
"${user[@]}" $bin/pgbench -h $PWD -U me -i -s 5 -q postgres 2>loaded
"${user[@]}" $bin/pgbench -h $PWD -U me -c 8 -j 2 -t 200 postgres | grep 'actually processed'
$bin/psql -h $PWD -U me -At postgres -c 'select count(*), sum(aid) from pgbench_accounts; set work_mem = 65536' -c "select count(distinct md5(i::text)) from generate_series(1, 200000) i"
BASH

check mariadb 240 mariadb-server-core mariadb-client-core <<'BASH'
mkdir data
mariadb-install-db --no-defaults --datadir=$PWD/data --user="$(id -un)" --auth-root-authentication-method=normal >made 2>&1
mariadbd --no-defaults --datadir=$PWD/data --socket=$PWD/socket --skip-networking --user="$(id -un)" >server 2>&1 &
trap 'kill $!' EXIT
for _ in $(seq 200); do [ -S socket ] && break; sleep 0.1; done
mariadb --no-defaults -uroot -S socket -N -e 'create database d; use d; create table t (i int primary key, s varchar(200)); insert into t select seq, repeat("x", seq % 200) from seq_1_to_50000;
    select count(*), sum(length(s)) from t; select count(distinct a.i % 100 + b.i % 70) from t a join t b on a.i = b.i + 1'
BASH

check sqlite 60 sqlite3 <<'BASH'
sqlite3 base 'pragma journal_mode = wal; create table t (a integer primary key, b text); create index i on t (b); with recursive n (i) as (select 1 union all select i + 1 from n limit 200000)
    insert into t select i, printf("%d-%s", i * 7919 % 10007, hex(zeroblob(i % 60))) from n; select count(*), count(distinct b), sum(length(b)) from t; delete from t where a % 3 = 0; vacuum; pragma integrity_check'
BASH

check nginx 60 nginx-light curl <<'BASH'
head -c 3000000 /dev/zero >zeros
printf 'daemon off; pid nginx.pid; error_log errors; user %s; worker_processes 2; events {} http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    gzip on; gzip_types *; server { listen unix:%s/socket; root %s; } }\n' "$(id -un)" "$PWD" "$PWD" >conf
nginx -p $PWD -e errors -c conf &
trap 'kill $!' EXIT
for _ in $(seq 100); do [ -S socket ] && break; sleep 0.1; done
for i in $(seq 30); do curl -s --compressed --unix-socket socket http://localhost/zeros | cksum; done | sort -u
BASH

check git 120 git <<'BASH'
git init -q -b main one
cd one
git config user.name a
git config user.email a@b
for i in $(seq 40); do
    for k in $(seq 20); do seq $((i * k)) >file$k; done
    git add .
    GIT_AUTHOR_DATE="2020-01-01 00:00:$i +0000" GIT_COMMITTER_DATE="2020-01-01 00:00:$i +0000" git commit -q -m "$i"
done
cd ..
git clone -q --no-local one two
cd two
git gc -q --aggressive
git fsck 2>/dev/null
git log --format=%H -p -M | cksum
git blame file7 | wc -l
BASH

# What it starts for a stranger may make few calls only, and is ended for others.
check ssh 120 openssh-server openssh-client <<'BASH'
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f host
ssh-keygen -q -t ed25519 -N '' -f me
printf '%s\n' "ListenAddress 127.0.0.1:22022" "HostKey $PWD/host" "AuthorizedKeysFile $PWD/me.pub" 'StrictModes no' 'UsePAM no' "PidFile $PWD/pid" >conf
/usr/sbin/sshd -D -e -f conf 2>server &
trap 'kill $!' EXIT
sleep 2
for _ in 1 2 3; do
    timeout 30 ssh -F none -i me -p 22022 -o StrictHostKeyChecking=no -o UserKnownHostsFile=$PWD/known -o BatchMode=yes "$(id -un)@127.0.0.1" 'seq 100000 | cksum' 2>said
done
BASH

check shells 120 bash dash zsh tcsh ksh mksh fish <<'BASH'
for shell in bash dash zsh ksh mksh; do
    $shell -c 'i=0; while [ $i -lt 300 ]; do x=$(echo $i | cat); y="$y$x"; (true) & i=$((i + 1)); done; wait; echo ${#y}'
done
tcsh -f -c 'set i = 0; while ($i < 100); set x = `echo $i`; @ i++; end; echo $x'
fish --no-config -c 'for i in (seq 100); set x $x (echo $i); end; count $x'
BASH

check text 120 coreutils gawk mawk sed grep diffutils <<'BASH'
seq 500000 | awk '{ print $1 * 7919 % 1000003, $1 }' >numbers
sort -n --parallel=4 -S 8M numbers | cksum
sort -R --random-source=numbers numbers | cksum
for awk in gawk mawk; do $awk '{ n[$1 % 1000] = n[$1 % 1000] " " $2 } END { for (i in n) l += length(n[i]); print l }' numbers; done
grep -cE '(1|2)+.*(7|8)$' numbers
sed 's/\([0-9]*\) \([0-9]*\)/\2 \1/' numbers | tac | cksum
diff numbers <(sed 5d numbers) || true
BASH

check packers 180 xz-utils zstd p7zip-full tar rsync bzip2 <<'BASH'
seq 600000 >a
for pack in 'xz -T2 -3' 'zstd -q -T2 -19 --long' 'gzip' 'bzip2'; do $pack -c a | ${pack%% *} -dc | cksum; done
7z a -mmt=4 a.7z a >/dev/null
7z x -so a.7z | cksum
mkdir d
(cd d && split -l 2000 ../a)
rsync -a d/ e/
rsync -a --checksum --delete d/ e/
tar cf - e | tar tf - | wc -l
BASH

check secrets 120 openssl gnupg openssh-client <<'BASH'
openssl speed -seconds 1 -multi 2 sha256 2>/dev/null >speed
openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -subj /CN=a 2>/dev/null
openssl verify -CAfile certificate certificate
mkdir -m 700 g
gpg --homedir g --batch --quiet --passphrase '' --quick-gen-key a@b 2>/dev/null
trap 'gpgconf --homedir g --kill all' EXIT
seq 100000 | gpg --homedir g --batch --quiet --trust-model always -e -r a@b | gpg --homedir g --batch --quiet -d 2>/dev/null | cksum
ssh-keygen -q -t ed25519 -N '' -f id
test -s id.pub
BASH

check pictures 180 ffmpeg imagemagick <<'BASH'
ffmpeg -loglevel error -f lavfi -i testsrc=duration=4:size=640x360:rate=25 -f lavfi -i sine=duration=4 -threads 4 -c:v libx264 -c:a aac a.mp4
ffmpeg -loglevel error -i a.mp4 -vf scale=320:180 -c:v mpeg4 b.avi
ffprobe -loglevel error -show_entries stream=codec_name,width b.avi
convert=$(command -v convert-im6.q16 || command -v convert)
$convert -size 1500x1000 plasma: -seed 1 -blur 0x3 -resize 50% -rotate 20 a.png
$convert a.png a.jpg
$convert a.jpg -format '%m %w\n' info: | head -1
BASH

check chromium 180 chromium <<'BASH'
echo '<html><body><h1>Title</h1><canvas id=c width=400 height=300></canvas><script>let x = []; for (let i = 0; i < 100000; i++) x.push({ i, s: "x".repeat(i % 50) }); document.title = x.length;
    const g = c.getContext("2d"); for (let i = 0; i < 500; i++) { g.fillStyle = `hsl(${i}, 80%, 50%)`; g.fillRect(i, i / 2, 50, 50) }</script></body></html>' >a.html
chromium --headless --no-sandbox --disable-gpu --no-first-run --user-data-dir=$PWD/profile --screenshot=$PWD/a.png --window-size=800,600 file://$PWD/a.html >said 2>&1
head -c 4 a.png | tail -c 3
[ "$(stat -c %s a.png)" -gt 3000 ]
BASH

check firefox 180 firefox-esr <<'BASH'
echo '<html><body><h1>Title</h1><script>document.title = "x".repeat(100)</script></body></html>' >a.html
firefox-esr --headless --profile $PWD --screenshot $PWD/a.png --window-size 800,600 file://$PWD/a.html >said 2>&1
head -c 4 a.png | tail -c 3
[ "$(stat -c %s a.png)" -gt 1000 ]
BASH

check editors 60 vim nano w3m man-db groff <<'BASH'
seq 20000 >a
vim -es -u NONE -N a -c '%s/1/one/g' -c 'g/7$/d' -c 'sort n' -c wq
cksum a
echo '<h1>Title</h1><table><tr><td>1<td>2</table>' | w3m -dump -T text/html
printf '.TH A 1\n.SH NAME\na \\- b\n' >a.1
man -P cat ./a.1 | head -3
groff -man -Tps a.1 | wc -l
BASH

check tmux 60 tmux <<'BASH'
tmux -f /dev/null -S $PWD/socket new-session -d -x 80 -y 24 bash --norc
trap 'tmux -S $PWD/socket kill-server' EXIT
for i in $(seq 20); do tmux -S $PWD/socket split-window -d 'seq 5000; sleep 60' 2>/dev/null || tmux -S $PWD/socket new-window -d 'seq 5000; sleep 60'; done
tmux -S $PWD/socket send-keys 'echo $((40 + 2)) >answer' Enter
for _ in $(seq 100); do [ -s answer ] && break; sleep 0.1; done
cat answer
BASH

check graphs 120 graphviz gnuplot-nox <<'BASH'
(echo 'digraph {'; for i in $(seq 300); do echo "n$i -> n$((i * 7 % 300)); n$i -> n$((i / 2));"; done; echo '}') >a.dot
dot -Tplain a.dot | cksum
gnuplot -e 'set terminal dumb; plot sin(x)' | cksum
BASH

check openmpi 120 openmpi-bin libopenmpi-dev gcc <<'BASH'
cat >a.c <<'C'
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **args) {
    int rank;
    MPI_Init(&count, &args);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    double sum = 0;
    for (int i = 1; i < 300; i++) {
        int n = i * 997;
        double *from = malloc(n * sizeof *from), *to = malloc(n * sizeof *to);
        for (int k = 0; k < n; k++)
            from[k] = rank + k;
        MPI_Allreduce(from, to, n, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        sum += to[n - 1];
        free(from);
        free(to);
    }
    if (!rank)
        printf("%f\n", sum);
    MPI_Finalize();
    return 0;
}
C
mpicc -o a a.c
OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -np 4 ./a
BASH

# What bears on memory; the kernel may end a child of these, which they know. 20 s each.
for stressor in malloc mmap mmapfork fork vfork brk bigheap stack memrate vm-splice mremap madvise mlock pthread clone sigsegv sigpending tree hsearch bsearch qsort str zlib; do
    check "stress-$stressor" 90 stress-ng <<BASH
stress-ng --$stressor 2 --timeout 20 --verify --oomable --temp-path . >said 2>&1
BASH
done
