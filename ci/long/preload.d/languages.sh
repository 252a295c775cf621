# Languages: their interpreters, compilers and what these make.

check perl 60 perl <<'BASH'
perl -e 'my %h; for my $i (1..200000) { $h{"key$i"} = [$i, "x" x ($i % 300)]; delete $h{"key" . int($i / 2)} if $i % 3 == 0 } my $n = 0;
    $n += length($_->[1]) for values %h; my $t = join ",", 1..100000; my $c = () = $t =~ /(\d+)7,/g; print "$n $c\n";
    for my $i (1..20) { my $p = fork // die; if (!$p) { my @x = map { "$_" } 1..10000; exit 0 } waitpid $p, 0; die if $? }
    use threads; my @t = map { threads->create(sub { my @y = map { $_ x 10 } 1..20000; scalar @y }) } 1..4; print $_->join, "\n" for @t'
BASH

check php 60 php-cli <<'BASH'
cat >a.php <<'PHP'
<?php
ini_set('memory_limit', '1G');
$rows = [];
for ($i = 0; $i < 200000; $i++) $rows[] = ['id' => $i, 'name' => str_repeat("n$i", $i % 20), 'tags' => range(0, $i % 5)];
$json = json_encode($rows);
echo strlen($json), ' ', md5($json), ' ', count(json_decode($json, true)), "\n";
echo preg_match_all('/"id":(\d+)7,/', $json), ' ', strlen(preg_replace_callback('/\d+/', fn($m) => $m[0] + 1, substr($json, 0, 1000000))), "\n";
$fibers = [];
for ($i = 0; $i < 500; $i++) { $fibers[$i] = new Fiber(fn() => Fiber::suspend(str_repeat('x', 10000))); $fibers[$i]->start(); }
foreach ($fibers as $fiber) $fiber->resume();
gc_collect_cycles();
PHP
for how in -dopcache.enable_cli=0 '-dopcache.enable_cli=1 -dopcache.jit_buffer_size=32M' -dzend.enable_gc=0; do
    php $how a.php
    USE_ZEND_ALLOC=0 php $how a.php
done
BASH

check node 90 nodejs <<'BASH'
cat >a.js <<'JS'
const { Worker, isMainThread, parentPort } = require('worker_threads');
const work = () => {
    let sum = 0;
    for (let i = 0; i < 3000; i++) { const b = Buffer.alloc((i * 7919) % 300000 + 1, i); sum += b[b.length - 1]; }
    return sum;
};
if (!isMainThread) { parentPort.postMessage(work()); return; }
const zlib = require('zlib'), crypto = require('crypto');
const data = Buffer.from(JSON.stringify(Array.from({ length: 100000 }, (_, i) => ({ i, s: 'x'.repeat(i % 50) }))));
console.log(crypto.createHash('sha256').update(zlib.gunzipSync(zlib.gzipSync(data))).digest('hex'), work());
let left = 6;
for (let i = 0; i < 6; i++) new Worker(__filename).on('message', m => { console.log(m); if (!--left) console.log('done'); });
for (let i = 0; i < 10; i++) require('child_process').execFileSync('true');
JS
node a.js
BASH

check java 180 default-jdk-headless <<'BASH'
cat >A.java <<'JAVA'
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;
public class A {
    public static void main(String[] a) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(16);
        List<Future<Long>> sums = new ArrayList<>();
        for (int t = 0; t < 64; t++) { final int seed = t; sums.add(pool.submit(() -> {
            long sum = 0;
            for (int i = 0; i < 200; i++) {
                ByteBuffer b = ByteBuffer.allocateDirect(1 + (seed * 7919 + i * 104729) % 400000);
                b.put(b.capacity() - 1, (byte) i); sum += b.get(b.capacity() - 1);
                Deflater d = new Deflater(); d.setInput(new byte[1000]); d.finish(); sum += d.deflate(new byte[2000]); d.end();
            }
            return sum; })); }
        for (Future<Long> s : sums) System.out.println(s.get());
        pool.shutdown();
    }
}
JAVA
javac A.java
java -XX:MaxDirectMemorySize=1g A
java -XX:+UseSerialGC -XX:NativeMemoryTracking=summary A | tail -1
BASH

check ruby 60 ruby <<'BASH'
ruby -e 'h = {}; 300000.times { |i| h["k#{i}"] = "v" * (i % 200); h.delete("k#{i / 2}") if i % 3 == 0 }; puts h.size, h.sum { |_, v| v.size }
    puts 8.times.map { |t| Thread.new { (1..20000).map { |i| "x" * (i % 100) }.sum(&:size) } }.map(&:value)
    f = 200.times.map { |i| Fiber.new { s = "y" * 5000; Fiber.yield s; s.size } }; f.each(&:resume); puts f.sum(&:resume)
    10.times { pid = fork { GC.start; exit!(0) }; Process.wait(pid); raise unless $?.success? }; GC.compact if GC.respond_to?(:compact)'
BASH

check r-language 120 r-base-core <<'BASH'
R --vanilla --slave -e 'set.seed(1); x <- matrix(rnorm(250000), 500); print(sum(abs(solve(x) %*% x - diag(500))) < 1e-4); d <- data.frame(g = sample(100, 1e5, TRUE), v = runif(1e5))
    print(nrow(aggregate(v ~ g, d, mean))); l <- lapply(1:20000, function(i) rnorm(i %% 100)); gc() -> z; print(sum(lengths(l))); print(unlist(parallel::mclapply(1:4, function(i) sum(1:i), mc.cores = 2)))'
BASH

check go-with-c 240 golang-go gcc <<'BASH'
cat >a.go <<'GO'
package main

/*
#include <stdlib.h>
#include <string.h>
static char *make(int n) { char *p = malloc(n); memset(p, 7, n); return p; }
*/
import "C"
import ("fmt"; "os/user"; "sync"; "unsafe")

func main() {
    var wait sync.WaitGroup
    sums := make([]int, 50)
    for g := range sums {
        wait.Add(1)
        go func(g int) {
            defer wait.Done()
            for i := 1; i < 2000; i++ {
                n := (g*7919+i*31)%100000 + 1
                p := C.make(C.int(n))
                sums[g] += int(*(*byte)(unsafe.Add(unsafe.Pointer(p), n-1)))
                C.free(unsafe.Pointer(p))
            }
        }(g)
    }
    wait.Wait()
    u, _ := user.Current()
    fmt.Println(sums, u.Uid)
}
GO
GO111MODULE=off GOFLAGS= GOTOOLCHAIN=local CGO_ENABLED=1 GOCACHE=$PWD/cache go build -o a a.go
./a
BASH

check gcc 180 gcc g++ <<'BASH'
for i in 1 2 3; do
    cat >a$i.cc <<CC
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <thread>
#include <vector>
int main() { std::map<std::string, std::vector<int>> m; for (int i = 0; i < 100000; i++) m[std::to_string(i % 997 * $i)].push_back(i);
    std::vector<std::thread> t; for (int i = 0; i < 8; i++) t.emplace_back([] { std::vector<std::string> v; for (int k = 0; k < 20000; k++) v.push_back(std::string(k % 300, 'x')); std::sort(v.begin(), v.end()); });
    for (auto &one : t) one.join(); std::cout << m.size() << std::regex_replace("a1b2", std::regex("[0-9]+"), "-") << "\n"; }
CC
    g++ -O2 -flto -g -pthread -o a$i a$i.cc
    ./a$i
    g++ -O1 -S -o - a$i.cc | cksum
done
BASH

check clang 180 clang lld g++ <<'BASH'
printf '#include <iostream>\n#include <vector>\nint main() { std::vector<int> v(1000000, 1); std::cout << v.size() << "\\n"; }\n' >a.cc
clang++ -O2 -fuse-ld=lld -o a a.cc
./a
BASH

check rust 300 gcc <<'BASH'
export HOME=$(getent passwd "$(id -u)" | cut -d: -f6) CARGO_TARGET_DIR=$PWD/target
mkdir -p src
printf '[package]\nname = "a"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n' >Cargo.toml
cat >src/main.rs <<'RUST'
use std::collections::BTreeMap;
fn main() {
    let threads: Vec<_> = (0..8_usize).map(|t| std::thread::spawn(move || {
        let mut map = BTreeMap::new();
        for i in 0..100_000_usize { map.insert(i * 7919 % 10007, vec![t as u8; i % 500]); }
        map.values().map(Vec::len).sum::<usize>()
    })).collect();
    for thread in threads { println!("{}", thread.join().unwrap()); }
}
RUST
cargo build --offline --release --quiet -j 4
./target/release/a
cargo clean --quiet
cargo test --offline --quiet >tests
BASH

check ocaml 120 ocaml-nox <<'BASH'
echo 'let () = let t = Hashtbl.create 10 in for i = 0 to 300000 do Hashtbl.replace t (i * 7 mod 50000) (String.make (i mod 300) (Char.chr 120)) done;
    let b = Bigarray.Array1.create Bigarray.float64 Bigarray.c_layout 1000000 in Bigarray.Array1.fill b 1.0; Gc.compact (); Printf.printf "%d %f\n" (Hashtbl.length t) b.{999999}' >a.ml
ocamlfind ocamlopt a.ml -o a 2>/dev/null || ocamlopt a.ml -o a
./a
ocaml a.ml
BASH

# Each of these manages memory in a way of its own: at fixed addresses, by looking for pointers in all of the process's, in the lowest gigabytes.
check sbcl 60 sbcl <<'BASH'
sbcl --non-interactive --no-userinit --eval '(progn (defun f (n) (loop for i below n collect (make-array (mod i 1000)))) (print (length (f 30000))) (gc :full t) (terpri))' | tail -1
BASH
check guile 60 guile-3.0 <<'BASH'
guile --no-auto-compile -c '(let loop ((i 0) (l (quote ()))) (if (< i 300000) (loop (+ i 1) (if (= 0 (modulo i 1000)) (quote ()) (cons (make-string (modulo i 300) #\x) l))) (begin (gc) (display (length l)) (newline))))'
BASH
check racket 120 racket <<'BASH'
racket -e '(display (for/sum ([i 100000]) (string-length (make-string (modulo i 300) #\x))))'
BASH
check luajit 60 luajit lua5.4 <<'BASH'
for lua in luajit lua5.4; do
    $lua -e 'local t = {} for i = 1, 500000 do t[i % 5000] = ("x"):rep(i % 300) .. i end collectgarbage() local n = 0 for _, s in pairs(t) do n = n + #s end print(n)'
done
BASH
check erlang 60 erlang-base <<'BASH'
erl -noshell -eval 'P = self(), [spawn(fun() -> P ! byte_size(binary:copy(<<1>>, I * 100)) end) || I <- lists:seq(1, 2000)], io:format("~p~n", [lists:sum([receive N -> N end || _ <- lists:seq(1, 2000)])]), halt().'
BASH
check mono 120 mono-runtime mono-mcs <<'BASH'
echo 'class A { static void Main() { var l = new System.Collections.Generic.List<byte[]>(); for (int i = 0; i < 100000; i++) { l.Add(new byte[i % 2000]); if (l.Count > 1000) l.Clear(); } System.GC.Collect(); System.Console.WriteLine(l.Count); } }' >a.cs
mcs a.cs
mono a.exe
BASH
check tcl 60 tcl <<'BASH'
echo 'for {set i 0} {$i < 200000} {incr i} { set a([expr {$i % 5000}]) [string repeat x [expr {$i % 300}]] }; puts [array size a]' | tclsh
BASH
check prolog 60 swi-prolog-nox <<'BASH'
swipl -g 'numlist(1, 300000, L), msort(L, M), sum_list(M, S), format("~w~n", [S]), findall(X-Y, (between(1, 300, X), between(1, 300, Y)), Z), length(Z, N), format("~w~n", [N]), garbage_collect' -t halt
BASH
check octave 120 octave <<'BASH'
octave-cli --norc --quiet --eval 'a = magic(400); b = a * a; c = cell(1, 20000); for i = 1:20000 c{i} = ones(1, mod(i, 100)); end; disp(sum(cellfun(@numel, c))); disp(trace(b))'
BASH
check gfortran 120 gfortran <<'BASH'
printf 'program a\nreal, allocatable :: x(:)\ninteger :: i\ndo i = 1, 5000\nallocate(x(i * 37))\nx = i\nif (x(i) /= i) stop 1\ndeallocate(x)\nend do\nprint *, i\nend program\n' >a.f90
gfortran -O1 -o a a.f90
./a
BASH
check emacs 60 emacs-nox <<'BASH'
emacs -Q --batch --eval '(let ((l nil)) (dotimes (i 200000) (push (make-string (% i 300) ?x) l) (when (= 0 (% i 1000)) (setq l nil))) (garbage-collect) (message "%d" (length l)) (princ (length (buffer-string))))'
BASH
