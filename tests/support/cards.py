"""What tools write about cards, for tests.

Beside each stands what of it was recorded. The rest is composed from the tools' own formats, since
the machines that it would take are not at hand.
"""

from __future__ import annotations

# llama-server 0.7.0 with its Vulkan backend and Mesa's lavapipe, run for these tests
TWO_LLVMPIPE = """\
Available devices:
  Vulkan0: llvmpipe (LLVM 21.1.8, 256 bits) (24105 MiB, 22946 MiB free)
  Vulkan1: llvmpipe (LLVM 21.1.8, 256 bits) (24105 MiB, 22946 MiB free)
"""
# the same binary without a driver
NONE = "Available devices:\n  (none)\n"

# The form of llama-server 0.7.0's log at verbosity 5 (recorded with lavapipe); cards composed
VULKAN_LOG = """\
0.00.020.959 D ggml_vulkan: Found 2 Vulkan devices:
0.00.021.057 D ggml_vulkan: 0 = AMD Radeon RX 7900 XTX (RADV NAVI31) (radv) | uma: 0 | fp16: 1 | bf16: 0 | fp4: 0 | warp size: 64 | shared memory: 65536 | int dot: 1 | matrix cores: KHR_coopmat
0.00.021.086 D ggml_vulkan: 1 = AMD Ryzen 9 7950X 16-Core Processor (RADV RAPHAEL_MENDOCINO) (radv) | uma: 1 | fp16: 1 | bf16: 0 | fp4: 0 | warp size: 32 | shared memory: 65536 | int dot: 1 | matrix cores: none
0.00.021.099 I load_backend: loaded Vulkan backend from /opt/llama/libggml-vulkan.so
"""  # noqa: E501  # as it was written
AMD_VULKAN = """\
Available devices:
  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 23210 MiB free)
  Vulkan1: AMD Ryzen 9 7950X 16-Core Processor (RADV RAPHAEL_MENDOCINO) (32066 MiB, 31800 MiB free)
"""

# Composed in the form of ggml-cuda.cu and common/arg.cpp; cards and sizes of a public log
CUDA = """\
ggml_cuda_init: GGML_CUDA_FORCE_MMQ:    no
ggml_cuda_init: found 2 CUDA devices (Total VRAM: 27760 MiB):
  Device 0: NVIDIA GeForce RTX 5060 Ti, compute capability 12.0, VMM: yes, VRAM: 15849 MiB
  Device 1: NVIDIA GeForce RTX 3060, compute capability 8.6, VMM: yes, VRAM: 11911 MiB
Available devices:
  CUDA0: NVIDIA GeForce RTX 5060 Ti (15849 MiB, 14960 MiB free)
  CUDA1: NVIDIA GeForce RTX 3060 (11911 MiB, 11348 MiB free)
"""
# Composed in the form of --format=csv,noheader,nounits. nvidia-smi goes by PCI address, so the same
# two are the other way round.
SMI = """\
0, 00000000:01:00.0, NVIDIA GeForce RTX 3060, 12288, 2, 11909, Disabled, 41
1, 00000000:0A:00.0, NVIDIA GeForce RTX 5060 Ti, 16311, 412, 15437, Enabled, 52
"""
TWO_3090 = """\
0, 00000000:01:00.0, NVIDIA GeForce RTX 3090, 24576, 1523, 22601, Enabled, 47
1, 00000000:02:00.0, NVIDIA GeForce RTX 3090, 24576, 4, 24120, Disabled, 38
"""
# A GB10 (DGX Spark) has no memory of its own. (Composed.)
GB10 = "0, 0000000F:01:00.0, NVIDIA GB10, [N/A], [N/A], [N/A], [N/A], 44\n"
H100 = "0, 00000000:19:00.0, NVIDIA H100 80GB HBM3, 81559, 1, 81007, Disabled, [N/A]\n"
# Texts that nvidia-smi writes, as quoted in public bug reports
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n\n"
)
MISMATCH = (
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.126\n"
)
LOST = (
    "Unable to determine the device handle for GPU0000:02:00.0: GPU is lost.  Reboot the system "
    "to recover this GPU\n"
)

# In the form of sysfs
UEVENT_7900 = """\
DRIVER=amdgpu
PCI_CLASS=30000
PCI_ID=1002:744C
PCI_SUBSYS_ID=1EAE:7901
PCI_SLOT_NAME=0000:03:00.0
MODALIAS=pci:v00001002d0000744Csv00001EAEsd00007901bc03sc00i00
"""
UEVENT_RAPHAEL = """\
DRIVER=amdgpu
PCI_CLASS=38000
PCI_ID=1002:164E
PCI_SLOT_NAME=0000:10:00.0
"""
UEVENT_NVIDIA = """\
DRIVER=nvidia
PCI_CLASS=30000
PCI_ID=10DE:2504
PCI_SLOT_NAME=0000:01:00.0
"""
UEVENT_SOC = "DRIVER=rockchip-drm\nOF_NAME=display-subsystem\n"

MEMINFO = """\
MemTotal:       24684092 kB
MemFree:         3053760 kB
MemAvailable:   23053760 kB
Buffers:          102400 kB
SwapTotal:             0 kB
"""
