// C++'s operators: sizes, alignments, what happens where there is no memory. The exit code is the number of what is wrong.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static int wrong;
#define CHECK(what) \
    do { \
        if (!(what)) { \
            wrong++; \
            std::fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
        } \
    } while (0)

static const std::size_t never = std::numeric_limits<std::size_t>::max() / 2;
static volatile std::size_t too_much = never;

static int asked;
static void give_up_at_the_third() {
    if (++asked == 3)
        std::set_new_handler(nullptr);
}
struct Other {};
static void throws_another() { throw Other(); }
static void throws_bad_alloc() { throw std::bad_alloc(); }

struct Guard {
    int &ended;
    ~Guard() { ended++; }
};

static void *volatile kept;

int main() {
    for (std::size_t n : {std::size_t(0), std::size_t(1), std::size_t(100), std::size_t(10000), std::size_t(1000000)}) {
        char *p = static_cast<char *>(::operator new(n)), *q = static_cast<char *>(::operator new[](n));
        CHECK(p && q && p != q && std::uintptr_t(p) % 16 == 0);
        std::memset(p, 1, n);
        ::operator delete(p);
        ::operator delete[](q, n);
        p = static_cast<char *>(::operator new(n, std::nothrow));
        CHECK(p);
        ::operator delete(p, std::nothrow);
        for (std::size_t align = 1; align <= 1 << 21; align *= 2) {
            auto al = std::align_val_t(align);
            p = static_cast<char *>(::operator new(n, al));
            CHECK(p && std::uintptr_t(p) % align == 0);
            ::operator delete(p, n, al);
            p = static_cast<char *>(::operator new[](n, al, std::nothrow));
            CHECK(p && std::uintptr_t(p) % align == 0);
            ::operator delete[](p, al);
        }
    }
    // Without a handler.
    int ended = 0;
    try {
        Guard guard{ended};
        kept = ::operator new(too_much);
        CHECK(false);
    } catch (const std::bad_alloc &) {
        ended += 10;
    }
    CHECK(ended == 11);
    CHECK(::operator new(too_much, std::nothrow) == nullptr);
    CHECK(::operator new[](too_much, std::align_val_t(64), std::nothrow) == nullptr);
    try {
        kept = ::operator new(too_much, std::align_val_t(4096));
        CHECK(false);
    } catch (const std::bad_alloc &) {
    }
    // A handler is asked until it helps, or there is none.
    std::set_new_handler(give_up_at_the_third);
    try {
        kept = ::operator new(too_much);
        CHECK(false);
    } catch (const std::bad_alloc &) {
        CHECK(asked == 3);
    }
    // What it throws goes to the caller, through every frame.
    std::set_new_handler(throws_another);
    ended = 0;
    try {
        Guard guard{ended};
        kept = ::operator new[](too_much);
        CHECK(false);
    } catch (const Other &) {
        ended += 10;
    }
    CHECK(ended == 11);
    // Nobody hears of it where null is the answer.
    for (auto handler : {throws_bad_alloc, throws_another}) {
        std::set_new_handler(handler);
        CHECK(::operator new(too_much, std::nothrow) == nullptr);
        CHECK(::operator new[](too_much, std::align_val_t(64), std::nothrow) == nullptr);
    }
    asked = 0;
    std::set_new_handler(give_up_at_the_third);
    CHECK(::operator new(too_much, std::nothrow) == nullptr && asked == 3);
    std::set_new_handler(nullptr);
    // Threads, strings, vectors, exceptions.
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++)
        threads.emplace_back([i] {
            std::vector<std::string> strings;
            for (int n = 0; n < 20000; n++) {
                strings.push_back(std::string(n % 300, char('a' + i)));
                if (n % 7 == 0 && n > 0)
                    strings.erase(strings.begin() + strings.size() / 2);
                try {
                    if (n % 100 == 0)
                        throw std::runtime_error(strings.back());
                } catch (const std::exception &e) {
                    if (strings.back() != e.what())
                        std::abort();
                }
            }
        });
    for (auto &thread : threads)
        thread.join();
    return wrong > 100 ? 100 : wrong;
}
