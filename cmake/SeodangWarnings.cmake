# Every target of ours links seo_options: the include root, and for C the warnings and sanitizers.
add_library(seo_options INTERFACE)
target_include_directories(seo_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(seo_options INTERFACE _GNU_SOURCE SEODANG_VERSION="${PROJECT_VERSION}")
target_compile_options(seo_options INTERFACE $<$<COMPILE_LANGUAGE:C>:
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wvla -Wundef -Wcast-qual -Wpointer-arith -Wformat=2
    -ffp-contract=off>)
if(SEODANG_WERROR)
    target_compile_options(seo_options INTERFACE $<$<COMPILE_LANGUAGE:C>:-Werror>)
endif()
if(SEODANG_SANITIZE)
    target_compile_options(seo_options INTERFACE $<$<COMPILE_LANGUAGE:C>:
        -fsanitize=${SEODANG_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -O1>)
    target_link_options(seo_options INTERFACE -fsanitize=${SEODANG_SANITIZE})
endif()
