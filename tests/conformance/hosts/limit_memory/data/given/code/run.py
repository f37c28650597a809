import mmap
import pathlib

groups = [pathlib.Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
limits = [group.read_text().strip() for group in groups if group.exists()]
if not any(limit.isdigit() and int(limit) < 5 << 30 for limit in limits):
    print("no limit")  # a job without one would take what the machine has
    raise SystemExit
memory = mmap.mmap(-1, 5 << 30)
for place in range(0, 5 << 30, mmap.PAGESIZE):
    memory[place] = 1
