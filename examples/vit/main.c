/*
 * qvit-vit - plain vision transformers in float32 and quantized, through qvit.h alone.
 *
 * Exit status: 0 done, 1 something failed, 2 the command line is wrong.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"

static const struct command {
    const char *name, *purpose;
    qvit_status (*run)(int argc, char **argv, qvit_error *error);
} commands[] = {
    {"eval", "accuracy and speed of a model, in floats and quantized", command_eval},
    {"random", "write a model of random weights, and images, to try it", command_random},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *stream)
{
    fprintf(stream, "usage: qvit-vit COMMAND [OPTION]...\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(stream, "  %-8s %s\n", commands[i].name, commands[i].purpose);
    fprintf(stream, "\nqvit-vit COMMAND --help explains a command. libqvit %s\n",
            qvit_version_string());
}

static int run(const struct command *command, int argc, char **argv)
{
    qvit_error error;
    qvit_status status = command->run(argc, argv, &error);
    if (status != QVIT_OK) {
        fprintf(stderr, "qvit-vit %s: %s\n", command->name, error.text);
        return status == QVIT_ERR_ARGUMENT ? 2 : 1;
    }
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "qvit-vit %s: stdout cannot be written\n", command->name);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help")) {
        print_usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (!strcmp(commands[i].name, name)) return run(&commands[i], argc - 2, argv + 2);
    }
    print_usage(stderr);
    return 2;
}
