# What the CUDA backend is made of, for the plug-in and for the test layer that runs it on the CPU.
set(SEO_CUDA_HOST_SOURCES backend.c memory.c stream.c)
set(SEO_CUDA_KERNEL_SOURCES)
