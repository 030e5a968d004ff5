/* The verbs under `seodang tokenizer` that turn texts into ids and back. Each takes what follows
 * its name and returns an exit code. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

int seo_cli_tokenizer_encode(int argc, char **argv);
int seo_cli_tokenizer_decode(int argc, char **argv);

#ifdef __cplusplus
}
#endif
