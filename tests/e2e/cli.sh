#!/usr/bin/env bash
# The program's words and exit codes: help, versions, unknown verbs and options, mistakes in a configuration.
. "$(dirname "$0")/lib.sh"

# The environment decides about threads before main runs, so the program starts itself once more; never twice.
ok "$seodang" --version
says out '^seodang [0-9]+\.[0-9]+\.[0-9]+$'
ok env -i "$seodang" --version
ok env OMP_WAIT_POLICY=active "$seodang" --version

# Help on every level, with an example where it is a verb's.
ok "$seodang" --help
says out '^usage: seodang VERB'
for verb in $(sed -n 's/^  \([a-z]*\) .*/\1/p' "$work/out"); do
    ok "$seodang" "$verb" --help
    says out '^usage: seodang '"$verb"
done
ok "$seodang" config check --help
says out '^usage: seodang config check \[options\] FILE'
says out '[-]-set KEY=VALUE'
says out '^example:'
ok "$seodang" config check -h

# Usage errors.
exits 2 "$seodang"
says err 'a verb is missing'
exits 2 "$seodang" confg check x
says err "unknown verb 'confg'; did you mean 'config'"
exits 2 "$seodang" config chek x
says err "did you mean 'check'"
exits 2 "$seodang" config check
says err 'FILE is missing'
exits 2 "$seodang" config check a b
says err "what is 'b'"
exits 2 "$seodang" config check x --sett a=1
says err 'did you mean --set'
exits 2 "$seodang" --quite config check x
exits 2 "$seodang" --log-level loud config check x
says err 'debug, info, warn or error'
exits 1 "$seodang" config check "$work/absent.yaml"
says err 'absent\.yaml'

# Before and after the verb.
make_config "$work/tiny.yaml"
ok "$seodang" --quiet config check "$work/tiny.yaml"
says out 'tiny\.yaml: ok'
ok "$seodang" config check "$work/tiny.yaml" --quiet --log-level=debug --set train.steps=30
says out '30 steps'

# Every mistake with its place, none of them cut.
{
    printf 'model: {num_layer: 2}\ntrain: {steps: fast}\neval:\n'
    for i in $(seq 100); do echo "  unheard_of_$i: 1"; done
} > "$work/bad.yaml"
exits 2 "$seodang" config check "$work/bad.yaml" --set train.stesp=3
says err 'bad\.yaml:1:9: error: .*num_layers'
says err 'bad\.yaml:2:16: error: .*"fast"'
says err 'bad\.yaml:103:3: error: .*unheard_of_100'
says err '^[-]-set train\.stesp=3: error: .*steps'
[ "$(grep -c 'error: unknown key "unheard_of' "$work/err")" = 100 ] || fail "not every mistake is shown"

# Presets, the resolved copy, and help of keys.
for preset in "$root"/configs/*.yaml; do ok "$seodang" config check "$preset"; done
ok "$seodang" config show "$work/tiny.yaml" --set optimizer.lr=1e-4
says out 'lr: 0.0001 +# --set$'
cp "$work/out" "$work/resolved.yaml"
ok "$seodang" config show "$work/resolved.yaml"
[ "$(sed 's/ *#.*//' "$work/out")" = "$(sed 's/ *#.*//' "$work/resolved.yaml")" ] || fail "the resolved copy reads differently"
ok "$seodang" config explain optimizer.lr
says out '^optimizer\.lr$'
ok "$seodang" config explain
exits 2 "$seodang" config explain optimizer.beta
says err 'did you mean beta'

# What cannot be written is an error, not silence.
if [ -w /dev/full ]; then
    "$seodang" config explain > /dev/full 2> "$work/err"
    [ $? = 1 ] || fail "a full disk is exit 1"
    says err 'No space left'
fi
