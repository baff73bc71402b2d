/* Which pictures are listed, with which labels, and in which order. */
#define _POSIX_C_SOURCE 200809L

#include "../../examples/photos/photo_list.h"
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/test_photo_list_XXXXXX";
static char made[64][96]; /* in order, to be removed in reverse */
static size_t made_count;

static const char *path_of(const char *name)
{
    char *path = made[made_count++];
    snprintf(path, sizeof made[0], "%s/%s", root, name);
    return path;
}

static void make_folder(const char *name) { CHECK_EQ(mkdir(path_of(name), 0700), 0); }

static const char *make_file(const char *name, const char *text)
{
    const char *path = path_of(name);
    FILE *stream = fopen(path, "wb");
    CHECK(stream != NULL);
    fputs(text, stream);
    CHECK_EQ(fclose(stream), 0);
    return path;
}

static void begin(void)
{
    strcpy(root + sizeof root - 7, "XXXXXX");
    CHECK(mkdtemp(root) != NULL);
}

static void end(void)
{
    while (made_count) CHECK_EQ(remove(made[--made_count]), 0);
    CHECK_EQ(rmdir(root), 0);
}

static void check_entry(const photo_list *list, size_t i, const char *name, int label)
{
    CHECK_STR(list->entries[i].name, name);
    CHECK_EQ(list->entries[i].label, label);
}

static void folders_are_classes_in_the_order_of_their_names(void)
{
    photo_list list;
    qvit_error error;
    begin();
    make_folder("n2"), make_folder("n10"), make_folder("n2/x"), make_folder("empty");
    make_file("n2/x/b.JPEG", ""), make_file("n2/z.png", ""), make_file("n10/a.jpg", "");
    make_file("n10/notes.txt", ""), make_file("README", ""), make_file("n10/.hidden.jpg", "");
    if (photo_list_from_folders(root, 3, &list, &error)) FAIL("%s", error.text);
    CHECK_EQ(list.count, 3);
    CHECK_EQ(list.classes, 3);
    CHECK_EQ(list.other_files, 2);
    CHECK(!list.numbered);
    check_entry(&list, 0, "n10/a.jpg", 1);
    check_entry(&list, 1, "n2/x/b.JPEG", 2);
    check_entry(&list, 2, "n2/z.png", 2);
    photo_list_close(&list);
    CHECK_EQ(photo_list_from_folders(root, 4, &list, &error), QVIT_ERR_ARGUMENT);
    CHECK(strstr(error.text, "--labels FILE") && !list.entries);
    end();
}

static void folders_that_are_numbers_are_labels(void)
{
    photo_list list;
    qvit_error error;
    begin();
    make_folder("10"), make_folder("9");
    make_file("10/a.jpg", ""), make_file("9/b.jpg", "");
    if (photo_list_from_folders(root, 1000, &list, &error)) FAIL("%s", error.text);
    check_entry(&list, 0, "10/a.jpg", 10);
    check_entry(&list, 1, "9/b.jpg", 9);
    photo_list_close(&list);
    CHECK_EQ(photo_list_from_folders(root, 10, &list, &error), QVIT_ERR_ARGUMENT);
    CHECK(strstr(error.text, "10: the classes are 0 to 9"));
    end();
}

static void a_picture_of_no_class_is_refused(void)
{
    photo_list list;
    qvit_error error;
    begin();
    make_folder("1"), make_file("1/a.jpg", ""), make_file("b.jpg", "");
    CHECK_EQ(photo_list_from_folders(root, 0, &list, &error), QVIT_ERR_ARGUMENT);
    CHECK(strstr(error.text, "b.jpg") && !list.entries);
    end();
}

static void a_file_names_pictures_and_labels(void)
{
    photo_list list;
    qvit_error error;
    begin();
    const char *path = make_file("list", "b.jpg 3\r\n\n  a  b/c.png\t 7 \n0.jpg 2147483647");
    if (photo_list_from_file(path, 0, &list, &error)) FAIL("%s", error.text);
    CHECK_EQ(list.count, 3);
    check_entry(&list, 0, "0.jpg", INT32_MAX);
    check_entry(&list, 1, "a  b/c.png", 7);
    check_entry(&list, 2, "b.jpg", 3);
    photo_list_close(&list);
    CHECK(photo_list_from_file(path, 7, &list, &error) != QVIT_OK);
    CHECK(strstr(error.text, "line 3") && !list.entries);
    end();
}

static void bad_lines_are_named(void)
{
    static const char *const lines[] = {"a.jpg",
                                        "7",
                                        "a.jpg x",
                                        "a.jpg -1",
                                        "a.jpg 1.0",
                                        "/a.jpg 1",
                                        "a.jpg 1 b",
                                        "a.jpg 2147483648",
                                        "a.jpg 99999999999999999999999"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        photo_list list;
        qvit_error error;
        char text[96];
        begin();
        snprintf(text, sizeof text, "z.jpg 1\n%s\n", lines[i]);
        const char *path = make_file("list", text);
        if (!photo_list_from_file(path, 0, &list, &error)) FAIL("\"%s\" taken", lines[i]);
        if (!strstr(error.text, "line 2") || list.entries) FAIL("%s", error.text);
        end();
    }
}

static void a_shuffle_keeps_every_picture_and_repeats(void)
{
    enum { COUNT = 1000, CLASSES = 4 };
    photo_list lists[2];
    for (int k = 0; k < 2; k++) {
        lists[k] = (photo_list){.entries = calloc(COUNT, sizeof(photo_entry)), .count = COUNT};
        for (int i = 0; i < COUNT; i++) lists[k].entries[i].label = i;
        photo_list_shuffle(&lists[k]);
    }
    unsigned seen[COUNT] = {0}, of_class[CLASSES] = {0};
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQ(lists[0].entries[i].label, lists[1].entries[i].label);
        seen[lists[0].entries[i].label]++;
        if (i < 100) of_class[lists[0].entries[i].label / (COUNT / CLASSES)]++;
    }
    for (size_t i = 0; i < COUNT; i++) CHECK_EQ(seen[i], 1);
    /* 25 each on average, deviation 4.1 */
    for (size_t i = 0; i < CLASSES; i++) CHECK(of_class[i] >= 10 && of_class[i] <= 40);
    photo_list_close(&lists[0]);
    photo_list_close(&lists[1]);
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(folders_are_classes_in_the_order_of_their_names);
    RUN(folders_that_are_numbers_are_labels);
    RUN(a_picture_of_no_class_is_refused);
    RUN(a_file_names_pictures_and_labels);
    RUN(bad_lines_are_named);
    RUN(a_shuffle_keeps_every_picture_and_repeats);
    return test_end();
}
