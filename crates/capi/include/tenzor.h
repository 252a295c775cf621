/* Tenzor: allocators for tensor programs, from C and C++. Made from the sources of the library; docs/c.md is the place to start. */

#ifndef TENZOR_H
#define TENZOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The alignment, in bytes, of blocks for which none is named.
#define TENZOR_ALIGNMENT 64

// The bytes of a message, with the zero at its end.
#define TENZOR_MESSAGE 256

// What kind of failure it is.
typedef enum tenzor_error_kind {
  // Nothing failed.
  TENZOR_OK = 0,
  // No state of the program can satisfy it: no block can have this size, the alignment is no power of two, or the block alone is larger than a limit.
  TENZOR_NEVER_FITS = 1,
  // A limit would be exceeded, even with nothing kept for reuse.
  TENZOR_OVER_LIMIT = 2,
  // There is no memory, and whoever refused did not say why.
  TENZOR_REFUSED = 3,
  // What was to be destroyed is in use; nothing happened.
  TENZOR_IN_USE = 4,
  // An argument means nothing: a null pointer, another kind of allocator. Nothing happened.
  TENZOR_INVALID = 5,
} tenzor_error_kind;

// Where blocks come from: the heap, a pool, an arena or a planned allocator. The heap and pools are for all threads; an arena and a planned
// allocator for one at a time.
typedef struct tenzor_allocator tenzor_allocator;

// A limit for all that takes its memory from it. It lives as long as any handle, and as what stands above it.
typedef struct tenzor_budget tenzor_budget;

// Settings of a pool. Odd values are rounded to the next ones that have a meaning.
typedef struct tenzor_pool_config {
  // The most bytes that are kept for reuse.
  size_t max_pool_size;
  // The most blocks that are kept in one bucket.
  size_t max_buffers_per_bucket;
  // Into how many size classes each power of two is cut.
  size_t classes_per_bucket;
  // The least alignment of every block, in bytes: a power of two from 64 to 2^30.
  size_t alignment;
  // The most bytes in use and kept together; `SIZE_MAX` for no limit.
  size_t limit;
  // Overwrite blocks with zeros when they are freed.
  bool zero_on_free;
  // Keep what the recent working set reuses, and no more.
  bool adaptive;
} tenzor_pool_config;

// Why something failed. Written where it did, else left alone.
typedef struct tenzor_error {
  // What kind of failure.
  enum tenzor_error_kind kind;
  // The bytes that were asked for, and their alignment; 0 if it was no request for a block, or there is no allocator.
  size_t requested;
  // See `requested`.
  size_t alignment;
  // The bytes in use where the reason was found, and those kept for reuse; 0 where that is not known.
  size_t in_use;
  // See `in_use`.
  size_t pooled;
  // The limit in force there, in bytes; `SIZE_MAX` if there is none.
  size_t limit;
  // The reason in words, which end with a zero.
  char message[TENZOR_MESSAGE];
} tenzor_error;

// What a budget has granted, in bytes.
typedef struct tenzor_budget_usage {
  // The limit; `SIZE_MAX` if there is none.
  size_t limit;
  // What is granted and not returned.
  size_t granted;
  // The part of it that pools, arenas and planned allocators keep for reuse, and give up when others need it.
  size_t kept;
  // The most that was granted at once since the peak was taken.
  size_t peak_granted;
} tenzor_budget_usage;

// Asked before a budget refuses a request, with the bytes that are missing: may free memory of its own, and says whether it did.
typedef bool (*tenzor_pressure_handler)(void *context, size_t missing);

// Settings of the heap. A field of `SIZE_MAX - 1` stays as it is.
typedef struct tenzor_heap_config {
  // The most bytes in use; `SIZE_MAX` for no limit.
  size_t limit;
  // The most bytes that are kept free; `SIZE_MAX` for no limit.
  size_t idle_limit;
  // How long free memory stays, in milliseconds; `SIZE_MAX` for ever.
  size_t decay_ms;
  // Huge pages: 0 where they pay, 1 wherever one fits, 2 nowhere.
  size_t huge_pages;
  // Who gives idle memory back: 0 a thread once the program has several, 1 always a thread, 2 the program's own requests.
  size_t background;
  // 1 if each free is checked at once, 0 if not.
  size_t checks;
} tenzor_heap_config;

// Asked before the heap refuses a request of `size` bytes: may free memory, and says whether the request is to be tried again.
typedef bool (*tenzor_refusal_handler)(void *context, size_t size, size_t alignment);

// Statistics, of one instant.
typedef struct tenzor_stats {
  // Requests served: hits and misses.
  uint64_t allocations;
  // Blocks freed.
  uint64_t deallocations;
  // All bytes ever handed out; wraps around.
  size_t bytes_allocated;
  // All bytes ever freed; wraps around.
  size_t bytes_freed;
  // Bytes handed out and not yet freed, as requested.
  size_t bytes_in_use;
  // The largest `bytes_in_use` so far, or since the peaks were taken.
  size_t peak_bytes_in_use;
  // `bytes_in_use`, each block with all of its size class.
  size_t bytes_in_use_rounded;
  // Requests served from what was kept for reuse.
  uint64_t pool_hits;
  // Requests for which memory was asked for further down.
  uint64_t pool_misses;
  // Bytes kept free for reuse.
  size_t pooled_bytes;
  // The part of them that those keep whose memory comes from here.
  size_t kept_above_bytes;
  // Blocks kept free for reuse.
  size_t pooled_buffers;
  // Bytes on their way at this instant, or spent on alignment.
  size_t overhead_bytes;
  // Bytes held: in use rounded, pooled, and overhead. Of the heap: resident bytes.
  size_t reserved_bytes;
  // The largest `reserved_bytes` so far, or since the peaks were taken, without what was on its way in other threads.
  size_t peak_reserved_bytes;
  // Blocks, or of the heap ranges of pages, given back.
  uint64_t released;
  // Requests refused, but for those that no block can serve.
  uint64_t failures;
} tenzor_stats;

// How steps went.
typedef struct tenzor_plan_stats {
  // Steps that ended.
  uint64_t steps;
  // Those among them that went as planned from the first request to the last free.
  uint64_t followed;
  // Those that began as planned, and departed from the plan.
  uint64_t departed;
  // Plans made.
  uint64_t plans;
  // The block's size in bytes.
  size_t height;
  // Blocks that were refused.
  uint64_t refused;
} tenzor_plan_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The process's heap, as an allocator that is always there.
struct tenzor_allocator *tenzor_heap(void);

// The settings of a pool for which none are named.
struct tenzor_pool_config tenzor_pool_config_default(void);

// A pool: freed blocks are kept by size class, and reused. Settings, or null for the default; of a budget, or null for the heap. For all threads. Null if there is no memory for its books.
// Needed: `config`, `budget` and `error` are null or valid.
struct tenzor_allocator *tenzor_pool_create(const struct tenzor_pool_config *config,
                                            const struct tenzor_budget *budget,
                                            struct tenzor_error *error);

// An arena: blocks are cut one behind the other, and `tenzor_arena_reset` frees all at once. With room for `capacity` bytes, or as much of it as there is; of a
// budget, or null for the heap. For one thread at a time. Null if there is no memory for its books.
// Needed: `budget` and `error` are null or valid.
struct tenzor_allocator *tenzor_arena_create(size_t capacity,
                                             const struct tenzor_budget *budget,
                                             struct tenzor_error *error);

// A planned allocator: a step that repeats, between `tenzor_step_begin` and `tenzor_step_end`, is served from one block by a plan; what is not planned, by a
// pool of these settings (null for the default); of a budget, or null for the heap. For one thread at a time. Null if there is no memory for its books.
// Needed: `config`, `budget` and `error` are null or valid.
struct tenzor_allocator *tenzor_planned_create(const struct tenzor_pool_config *config,
                                               const struct tenzor_budget *budget,
                                               struct tenzor_error *error);

// Ends an allocator. A pool, or a planned allocator, of which blocks are in use stays, and that is the error; of an arena, all blocks go with it. Null does nothing.
// Needed: It is null, or came from one of the functions above and is not used any more; `error` is null or valid.
bool tenzor_allocator_destroy(struct tenzor_allocator *allocator,
                              struct tenzor_error *error);

// A block of `size` bytes at a multiple of `TENZOR_ALIGNMENT`. Null if it is refused. One of no bytes is no memory: its address is its alignment, as that of
// all others of no bytes, and it may be freed as others are.
// Constant time where a block of that size class was freed before.
// Needed: `allocator` and `error` are null or valid.
void *tenzor_alloc(const struct tenzor_allocator *allocator,
                   size_t size,
                   struct tenzor_error *error);

// As `tenzor_alloc`, with all bytes zero. Memory that is known to be zero is not written.
// Needed: As for `tenzor_alloc`.
void *tenzor_alloc_zeroed(const struct tenzor_allocator *allocator, size_t size, struct tenzor_error *error);

// As `tenzor_alloc`, at a multiple of `alignment`, a power of two. To be freed by `tenzor_aligned_free`.
// Needed: As for `tenzor_alloc`.
void *tenzor_aligned_alloc(const struct tenzor_allocator *allocator, size_t alignment, size_t size, struct tenzor_error *error);

// As `tenzor_aligned_alloc`, with all bytes zero.
// Needed: As for `tenzor_alloc`.
void *tenzor_aligned_alloc_zeroed(const struct tenzor_allocator *allocator,
                                  size_t alignment,
                                  size_t size,
                                  struct tenzor_error *error);

// Makes a block of `old_size` bytes one of `new_size`, and returns where it is now. Its contents stay, up to the lesser of both. Null if it is refused: then the
// block is as it was. A null block is requested anew.
// Needed: `allocator` and `error` are null or valid; the block came from `tenzor_alloc` or its kin of this allocator with that size, or was resized to it.
void *tenzor_resize(const struct tenzor_allocator *allocator,
                    void *block,
                    size_t old_size,
                    size_t new_size,
                    struct tenzor_error *error);

// As `tenzor_resize`, for blocks of `tenzor_aligned_alloc` with the same alignment.
// Needed: As for `tenzor_resize`.
void *tenzor_aligned_resize(const struct tenzor_allocator *allocator,
                            void *block,
                            size_t alignment,
                            size_t old_size,
                            size_t new_size,
                            struct tenzor_error *error);

// Frees a block, which had so many bytes when it was requested or resized last. A null block is nothing. What was never granted so ends the process, where that is seen.
// Needed: The block came from `tenzor_alloc` or its kin of this allocator with that size, or was resized to it, and nobody uses it any more.
void tenzor_free(const struct tenzor_allocator *allocator,
                 void *block,
                 size_t size);

// As `tenzor_free`, for blocks of `tenzor_aligned_alloc` with the same alignment.
// Needed: As for `tenzor_free`.
void tenzor_aligned_free(const struct tenzor_allocator *allocator, void *block, size_t alignment, size_t size);

// Gives back what an allocator keeps for reuse beyond `keep` bytes; returns how many bytes. Of a planned allocator, what its pool keeps; of an arena see `tenzor_arena_shrink`.
// Needed: `allocator` is null or valid.
size_t tenzor_trim(const struct tenzor_allocator *allocator,
                   size_t keep);

// Frees all blocks of an arena at once, and keeps its memory for those to come. Returns whether it is one.
// Needed: `allocator` and `error` are null or valid, and nobody uses blocks of it any more.
bool tenzor_arena_reset(struct tenzor_allocator *allocator, struct tenzor_error *error);

// As `tenzor_arena_reset`, and gives memory back until the arena has so many bytes at most. Returns how many bytes were given back.
// Needed: As for `tenzor_arena_reset`.
size_t tenzor_arena_shrink(struct tenzor_allocator *allocator,
                           size_t bytes,
                           struct tenzor_error *error);

// Begins a step of a planned allocator. Steps are not nested. Returns whether it began.
// Needed: `allocator` and `error` are null or valid.
bool tenzor_step_begin(const struct tenzor_allocator *allocator, struct tenzor_error *error);

// Ends the step that runs. Blocks that are in use stay so. Returns whether there was one.
// Needed: `allocator` and `error` are null or valid.
bool tenzor_step_end(const struct tenzor_allocator *allocator, struct tenzor_error *error);

// A budget of `limit` bytes (`SIZE_MAX` for none), of the heap, or within `parent` if that is not null. The first 23 bytes of `name` are in errors. Null if it cannot
// be made: the name is null or no UTF-8, or there is no memory.
// Needed: `name` ends with a zero; `parent` and `error` are null or valid.
struct tenzor_budget *tenzor_budget_create(const char *name,
                                           size_t limit,
                                           const struct tenzor_budget *parent,
                                           struct tenzor_error *error);

// Lets go of a budget. What stands above it keeps it alive. Null does nothing.
// Needed: It came from `tenzor_budget_create`, and nobody uses the handle any more.
void tenzor_budget_destroy(struct tenzor_budget *budget);

// Sets another limit from now on. Of what is granted beyond it, what is kept for reuse is given up at once. Returns whether there is such a budget.
// Needed: `budget` is null or alive.
bool tenzor_budget_set_limit(const struct tenzor_budget *budget,
                             size_t limit);

// Has what is kept for reuse above this budget given up. Returns how many bytes.
// Needed: `budget` is null or alive.
size_t tenzor_budget_trim(const struct tenzor_budget *budget);

// Writes what is granted. With `take_peak`, the peak is taken anew then. Returns whether there is such a budget.
// Needed: `budget` is null or alive; `usage` is null or valid.
bool tenzor_budget_usage_of(const struct tenzor_budget *budget, bool take_peak, struct tenzor_budget_usage *usage);

// Asks `handler` before a request is refused by this budget, once everything kept for reuse was given up. It runs in the thread that requests, without a lock of
// Tenzor's, and may free memory of any thread's, but not through the arena or planned allocator that requests. Null for none. Returns whether there is such a budget, and memory to note it.
// Needed: `budget` is null or alive. Any thread may call the handler with this context, as long as the budget is there.
bool tenzor_budget_on_pressure(const struct tenzor_budget *budget,
                               tenzor_pressure_handler handler,
                               void *context);

// The version of the library, as "0.1.0".
const char *tenzor_version(void);

// Whether the heap is that of the process's malloc: that libtenzor-malloc is loaded.
bool tenzor_is_malloc(void);

// Settings that change nothing: those to begin with.
struct tenzor_heap_config tenzor_heap_config_unchanged(void);

// Applies settings to the heap. What the environment has set stands, as it is the word of whoever runs the program. Returns whether they mean something; if not, nothing happened.
// Needed: `config` and `error` are null or valid.
bool tenzor_heap_configure(const struct tenzor_heap_config *config,
                           struct tenzor_error *error);

// The limit of the heap in bytes; `SIZE_MAX` if there is none.
size_t tenzor_heap_limit(void);

// Gives all free memory back to the system: of the heap, of threads' stocks, and what pools, arenas and planned allocators keep of it. Returns how many bytes.
size_t tenzor_heap_trim(void);

// Writes the tables of the heap's statistics and of where the process's memory is, as text that ends with a zero, as much as there is room for. Returns
// the bytes of all of it, without the zero.
// Needed: So many bytes may be written at `text`, which may be null if `room` is 0.
size_t tenzor_heap_report(char *text,
                          size_t room);

// Asks `handler` before the heap refuses a request, once what is kept for reuse was given up. It runs in the thread that requests, in the midst of the
// request, and may free memory; null for none. It may be asked several times for a request, and at any time from then on, also after another took its place.
// Returns whether there was memory to note it.
bool tenzor_heap_on_refusal(tenzor_refusal_handler handler,
                            void *context);

// Writes the statistics of an allocator: of a planned one, those of its pool, which serves its block and what is not planned; of an arena, what was requested
// since the last reset, freed or not, of which nothing else is counted but what was refused. With `take_peaks`, the peaks are taken anew then, but for an arena's. Returns whether there is such an allocator.
// Needed: `allocator` and `stats` are null or valid.
bool tenzor_stats_of(const struct tenzor_allocator *allocator,
                     bool take_peaks,
                     struct tenzor_stats *stats);

// Writes how the steps of a planned allocator went. Returns whether it is one.
// Needed: `allocator` and `stats` are null or valid.
bool tenzor_plan_stats_of(const struct tenzor_allocator *allocator, struct tenzor_plan_stats *stats);

// Writes the statistics of an allocator as JSON that ends with a zero, as much as there is room for, with a row for each size class. Returns the bytes of
// all of it, without the zero; 0 if there is no such allocator, or no memory.
// Needed: `allocator` is null or valid; so many bytes may be written at `text`, which may be null if `room` is 0.
size_t tenzor_stats_json(const struct tenzor_allocator *allocator,
                         char *text,
                         size_t room);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TENZOR_H */
