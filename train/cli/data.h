/* The verbs under `seodang data`. Each takes what follows its name and returns an exit code. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

int seo_cli_data_build(int argc, char **argv);
int seo_cli_data_inspect(int argc, char **argv);
int seo_cli_data_verify(int argc, char **argv);
int seo_cli_data_text(int argc, char **argv);

#ifdef __cplusplus
}
#endif
