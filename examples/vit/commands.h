/*
 * commands.h - the subcommands of qvit-vit.
 *
 * Each takes the arguments behind its name, prints its results on stdout, and returns ARGUMENT if
 * the command line is to blame for a failure.
 */
#ifndef VIT_COMMANDS_H
#define VIT_COMMANDS_H

#include <qvit.h>

/* Accuracy and speed of a model, in floats and quantized. */
qvit_status command_eval(int argc, char **argv, qvit_error *error);

/* Writes a model of random weights, and images, to try the others with. */
qvit_status command_random(int argc, char **argv, qvit_error *error);

#endif
