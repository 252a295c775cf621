// A library that takes and frees what is its host's.
#include <stdlib.h>
#include <string.h>

char *plugin_copy(char *text) {
    char *copy = strdup(text);
    free(text);
    return copy;
}
