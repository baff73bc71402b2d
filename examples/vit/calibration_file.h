/*
 * calibration_file.h - what a calibrator observed, as a file: to solve again without observing again,
 * and to observe in several processes.
 */
#ifndef VIT_CALIBRATION_FILE_H
#define VIT_CALIBRATION_FILE_H

#include <qvit.h>

qvit_status calibration_file_save(const char *path, const qvit_calibrator *calibrator,
                                  qvit_error *error);

/* Adds a file's observations to the calibrator's, which must have the same sites. */
qvit_status calibration_file_load(const char *path, qvit_calibrator *calibrator, qvit_error *error);

#endif
