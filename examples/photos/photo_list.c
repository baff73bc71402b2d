#define _POSIX_C_SOURCE 200809L

#include "photo_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "../vit/fail.h"
#include "../vit/files.h"

enum { MAX_DEPTH = 8 }; /* of folders; a link may lead back to where it is */

/* ---- texts ---- */

char *photo_path(const char *folder, const char *name)
{
    const size_t folder_length = strlen(folder), name_length = strlen(name);
    char *path = malloc(folder_length + 1 + name_length + 1);
    if (!path) return NULL;
    size_t used = folder_length;
    memcpy(path, folder, folder_length);
    if (folder_length) path[used++] = '/';
    memcpy(path + used, name, name_length + 1);
    return path;
}

/* A number of digits and nothing else, at most INT32_MAX; -1 for all other texts. */
static int32_t label_of(const char *text, size_t length)
{
    int64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        value = value * 10 + (text[i] - '0');
        if (value > INT32_MAX) return -1;
    }
    return length ? (int32_t)value : -1;
}

static bool is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot &&
           (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg") || !strcasecmp(dot, ".png"));
}

/* ---- the list ---- */

/* Takes the name, also on failure. */
static qvit_status add(photo_list *list, char *name, int32_t label, qvit_error *error)
{
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 256;
        photo_entry *entries = NULL;
        if (room <= SIZE_MAX / sizeof *entries)
            entries = realloc(list->entries, room * sizeof *entries);
        if (!entries) {
            free(name);
            return fail_memory(error);
        }
        list->entries = entries;
        list->room = room;
    }
    list->entries[list->count++] = (photo_entry){name, label};
    return QVIT_OK;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const photo_entry *)a)->name, ((const photo_entry *)b)->name);
}

static void sort(photo_list *list)
{
    if (list->count) qsort(list->entries, list->count, sizeof *list->entries, compare_entries);
}

void photo_list_close(photo_list *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->entries[i].name);
    free(list->entries);
    *list = (photo_list){0};
}

/* splitmix64 */
static uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Fisher and Yates's. */
void photo_list_shuffle(photo_list *list)
{
    uint64_t state = 0;
    for (size_t left = list->count; left > 1; left--) {
        const size_t i = (size_t)(random_bits(&state) % left);
        const photo_entry entry = list->entries[i];
        list->entries[i] = list->entries[left - 1];
        list->entries[left - 1] = entry;
    }
}

/* ---- from folders ---- */

struct names {
    char **items;
    size_t count, room;
};

static void free_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) free(names->items[i]);
    free(names->items);
    *names = (struct names){0};
}

static qvit_status add_name(struct names *names, const char *name, qvit_error *error)
{
    if (names->count == names->room) {
        const size_t room = names->room ? 2 * names->room : 64;
        char **items = NULL;
        if (room <= SIZE_MAX / sizeof *items) items = realloc(names->items, room * sizeof *items);
        if (!items) return fail_memory(error);
        names->items = items;
        names->room = room;
    }
    names->items[names->count] = strdup(name);
    return names->items[names->count] ? (names->count++, QVIT_OK) : fail_memory(error);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static qvit_status read_names(DIR *stream, const char *folder, struct names *names,
                              qvit_error *error)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (!entry) break;
        if (entry->d_name[0] != '.') TRY(add_name(names, entry->d_name, error));
    }
    if (errno) return fail(error, QVIT_ERR_IO, "%s: %s", folder, strerror(errno));
    if (names->count) qsort(names->items, names->count, sizeof *names->items, compare_names);
    return QVIT_OK;
}

/* What is in a folder, in order. Free the names, also after a failure. */
static qvit_status list_names(const char *folder, struct names *names, qvit_error *error)
{
    DIR *stream = opendir(folder);
    if (!stream) return fail(error, QVIT_ERR_IO, "%s: %s", folder, strerror(errno));
    qvit_status status = read_names(stream, folder, names, error);
    closedir(stream);
    return status;
}

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* One walk through a class's folder. */
struct walk {
    const char *root; /* of all classes */
    int32_t label;
    photo_list *list;
    qvit_error *error;
};

static qvit_status walk_folder(const struct walk *w, const char *name, int depth);

/* Takes the name, also on failure. */
static qvit_status walk_item(const struct walk *w, char *name, int depth)
{
    char *path = name ? photo_path(w->root, name) : NULL;
    if (!path) {
        free(name);
        return fail_memory(w->error);
    }
    const bool deeper = is_folder(path);
    free(path);
    if (!deeper && is_picture(name)) return add(w->list, name, w->label, w->error);
    w->list->other_files += !deeper;
    qvit_status status = deeper ? walk_folder(w, name, depth + 1) : QVIT_OK;
    free(name);
    return status;
}

static qvit_status walk_names(const struct walk *w, const char *name, const struct names *names,
                              int depth)
{
    for (size_t i = 0; i < names->count; i++)
        TRY(walk_item(w, photo_path(name, names->items[i]), depth));
    return QVIT_OK;
}

/* Folders in a class's folder belong to it. */
static qvit_status walk_folder(const struct walk *w, const char *name, int depth)
{
    struct names names = {0};
    char *path = photo_path(w->root, name);
    if (!path) return fail_memory(w->error);
    qvit_status status = depth > MAX_DEPTH ? fail(w->error, QVIT_ERR_IO,
                                                  "%s: folders lie too deep in each other", path)
                                           : list_names(path, &names, w->error);
    if (status == QVIT_OK) status = walk_names(w, name, &names, depth);
    free_names(&names);
    free(path);
    return status;
}

/*
 * Leaves the folders in names; files are counted, but must not be pictures, which had no class
 * then.
 */
static qvit_status keep_folders(const char *root, struct names *names, photo_list *list,
                                qvit_error *error)
{
    size_t kept = 0;
    for (size_t i = 0; i < names->count; i++) {
        char *name = names->items[i], *path = photo_path(root, name);
        if (!path) return fail_memory(error);
        const bool keep = is_folder(path);
        free(path);
        if (!keep && is_picture(name))
            return fail(error, QVIT_ERR_ARGUMENT,
                        "%s/%s is in no class's folder: move it, or tell classes by --labels FILE",
                        root, name);
        list->other_files += !keep;
        if (!keep) continue;
        names->items[i] = names->items[kept];
        names->items[kept++] = name;
    }
    for (size_t i = kept; i < names->count; i++) free(names->items[i]);
    names->count = kept;
    return QVIT_OK;
}

static bool all_numbers(const struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        if (label_of(names->items[i], strlen(names->items[i])) < 0) return false;
    }
    return true;
}

static qvit_status check_classes(const char *root, const struct names *names, size_t classes,
                                 const photo_list *list, qvit_error *error)
{
    if (names->count == 0)
        return fail(error, QVIT_ERR_ARGUMENT,
                    "%s has no folders, one for each class; or tell classes by --labels FILE",
                    root);
    if (!list->numbered && classes && names->count != classes)
        return fail(
            error, QVIT_ERR_ARGUMENT,
            "%s has %zu folders for %zu classes: which is which? Tell by --labels FILE, or name "
            "the folders by the classes' numbers",
            root, names->count, classes);
    for (size_t i = 0; list->numbered && classes && i < names->count; i++) {
        if ((size_t)label_of(names->items[i], strlen(names->items[i])) >= classes)
            return fail(error, QVIT_ERR_ARGUMENT, "%s/%s: the classes are 0 to %zu", root,
                        names->items[i], classes - 1);
    }
    return QVIT_OK;
}

static qvit_status list_classes(const char *root, struct names *names, size_t classes,
                                photo_list *list, qvit_error *error)
{
    TRY(list_names(root, names, error));
    TRY(keep_folders(root, names, list, error));
    list->numbered = all_numbers(names);
    list->classes = names->count;
    TRY(check_classes(root, names, classes, list, error));
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->items[i];
        const int32_t label = list->numbered ? label_of(name, strlen(name)) : (int32_t)i;
        const struct walk w = {root, label, list, error};
        TRY(walk_folder(&w, name, 1));
    }
    return QVIT_OK;
}

qvit_status photo_list_from_folders(const char *folder, size_t classes, photo_list *out,
                                    qvit_error *error)
{
    struct names names = {0};
    *out = (photo_list){0};
    qvit_status status = list_classes(folder, &names, classes, out, error);
    free_names(&names);
    sort(out);
    if (status != QVIT_OK) photo_list_close(out);
    return status;
}

/* ---- from a file ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static void trim(const char **begin, const char **end)
{
    while (*begin < *end && is_blank(**begin)) ++*begin;
    while (*begin < *end && is_blank((*end)[-1])) --*end;
}

/* One line, without its end: nothing, or a name, blanks and a label. */
static qvit_status read_line(const char *begin, const char *end, size_t classes, photo_list *list,
                             qvit_error *error)
{
    trim(&begin, &end);
    if (begin == end) return QVIT_OK;
    const char *last = end, *name_end;
    while (last > begin && !is_blank(last[-1])) last--;
    name_end = last;
    trim(&begin, &name_end);
    const int32_t label = label_of(last, (size_t)(end - last));
    if (begin == name_end || label < 0)
        return fail(error, QVIT_ERR_FORMAT, "a line is a picture's name and the number of a class");
    if (classes && (size_t)label >= classes)
        return fail(error, QVIT_ERR_FORMAT, "the classes are 0 to %zu", classes - 1);
    if (*begin == '/' || memchr(begin, '\0', (size_t)(name_end - begin)))
        return fail(error, QVIT_ERR_FORMAT, "names are relative to the folder of --images");
    char *name = strndup(begin, (size_t)(name_end - begin));
    return name ? add(list, name, label, error) : fail_memory(error);
}

static qvit_status read_lines(const char *path, const char *text, size_t size, size_t classes,
                              photo_list *list, qvit_error *error)
{
    const char *end = text + size;
    for (size_t line = 1; text < end; line++) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        if (!line_end) line_end = end;
        qvit_error reason;
        qvit_status status = read_line(text, line_end, classes, list, &reason);
        if (status != QVIT_OK)
            return fail(error, status, "%s: line %zu: %.100s", path, line, reason.text);
        text = line_end + (line_end < end);
    }
    return QVIT_OK;
}

static qvit_status check_names(const char *path, const photo_list *list, qvit_error *error)
{
    for (size_t i = 1; i < list->count; i++) {
        const char *name = list->entries[i].name;
        if (!strcmp(list->entries[i - 1].name, name))
            return fail(error, QVIT_ERR_FORMAT, "%s: %s is there twice", path, name);
    }
    return QVIT_OK;
}

qvit_status photo_list_from_file(const char *path, size_t classes, photo_list *out,
                                 qvit_error *error)
{
    size_t size;
    const char *problem;
    *out = (photo_list){0};
    FILE *stream = open_to_read(path);
    if (!stream) return fail(error, QVIT_ERR_IO, "%s: %s", path, strerror(errno));
    char *text = read_all(stream, &size, &problem);
    fclose(stream);
    if (!text) return fail(error, QVIT_ERR_IO, "%s: %s", path, problem);
    qvit_status status = read_lines(path, text, size, classes, out, error);
    free(text);
    sort(out);
    if (status == QVIT_OK) status = check_names(path, out, error);
    if (status != QVIT_OK) photo_list_close(out);
    return status;
}
