/*
 * photo_list.h - which pictures there are, and of which class each one is.
 *
 * A list is in the order of the names, byte by byte, until it is shuffled: the same on every
 * machine, and the same whether it comes from folders or from a file.
 */
#ifndef PHOTOS_PHOTO_LIST_H
#define PHOTOS_PHOTO_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <qvit.h>

typedef struct photo_entry {
    char *name; /* below the folder of the pictures */
    int32_t label;
} photo_entry;

typedef struct photo_list {
    photo_entry *entries;
    size_t count, room;
    size_t classes;     /* folders; 0 if the labels come from a file */
    bool numbered;      /* the folders' names are the labels */
    size_t other_files; /* that are no pictures by their names */
} photo_list;

/*
 * The .jpg, .jpeg and .png files below the folders in a folder, one for each class. If all names
 * of these are numbers, they are the labels. Else a label is the place of its folder in the order
 * of the names, from 0; then `classes`, unless it is 0, must be their number. Names that begin
 * with a dot are passed over.
 *
 * On failure the list is empty. Errors: ARGUMENT where other options or another folder would help.
 */
qvit_status photo_list_from_folders(const char *folder, size_t classes, photo_list *out,
                                    qvit_error *error);

/*
 * The pictures that a text file names, with their labels: lines like "cats/1.jpg 281". A name may
 * have blanks inside. Labels are below `classes`, unless that is 0.
 */
qvit_status photo_list_from_file(const char *path, size_t classes, photo_list *out,
                                 qvit_error *error);

/*
 * Always the same shuffle of the same number of pictures, so that any part of it is a sample of
 * all.
 */
void photo_list_shuffle(photo_list *list);

/* An empty one may be closed again. */
void photo_list_close(photo_list *list);

/* "folder/name", to be freed; just the name where the folder is "". NULL: no memory. */
char *photo_path(const char *folder, const char *name);

#endif
