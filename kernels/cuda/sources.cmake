# What the CUDA backend is made of, for the plug-in and for the test layer that runs it on the CPU.
set(SEO_CUDA_HOST_SOURCES backend.c matmul_choices.c memory.c stream.c)
set(SEO_CUDA_KERNEL_SOURCES activation.cu attention.cu attention_bwd.cu attention_rows.cu cast.cu distill.cu dropout.cu
    embedding.cu loss.cu matmul.cu matmul_f32.cu matmul_mma.cu norm.cu normal.cu optimizer.cu reduce.cu rows.cu)
# Files with instructions of sm_90a, which are compiled for it as well.
set(SEO_CUDA_SM90A_SOURCES matmul_wgmma.cu)
