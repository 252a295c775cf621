// The header is C++17 as well.
#include "tenzor.h"

int main() {
    tenzor_error error{};
    tenzor_allocator *pool = tenzor_pool_create(nullptr, nullptr, &error);
    void *block = tenzor_alloc(pool, 100, &error);
    tenzor_free(pool, block, 100);
    return block != nullptr && error.kind == TENZOR_OK && tenzor_allocator_destroy(pool, &error) ? 0 : 1;
}
