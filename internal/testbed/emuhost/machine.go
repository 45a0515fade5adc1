package emuhost

import (
	"fmt"
	"strconv"

	"minivmm/guestimages/agent"
)

// kernelLine is the host kernel's command line. It keeps the console short, makes QEMU exit on a
// panic (with -no-reboot) and disables mitigations, which an emulated machine does not need. lpj
// skips the calibration of the delay loop on each CPU, which takes a second in emulation. The value
// of lpj is right for a time stamp counter of 2.5 GHz, and delays need only be about right.
// tsc=reliable and no_timer_check skip checks of the emulated counter and timer, because these
// checks spend time waiting.
const kernelLine = "console=ttyS0 panic=-1 quiet mitigations=off lpj=10000000 tsc=reliable no_timer_check"

// channelFD is the channel's file descriptor in QEMU: the first after the standard streams.
const channelFD = 3

// shares returns the shared folders with their 9p tags.
func (h *Host) shares() []agent.Share {
	var all []agent.Share
	for i, dir := range h.config.Shares {
		all = append(all, agent.Share{Tag: "share" + strconv.Itoa(i), Path: dir})
	}
	return all
}

// arguments returns QEMU's command line, without the program's name.
func (h *Host) arguments() []string {
	var args []string
	add := func(more ...string) { args = append(args, more...) }
	for _, dir := range h.qemu.Folders {
		add("-L", dir)
	}
	add("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
	// One thread translates for all CPUs. With one thread for each CPU, QEMU (7.2) misses a store
	// to code that another CPU is translating. A kernel that patches its own text then runs a stale
	// breakpoint ("Oops: int3") or worse, about once in ten starts on a busy computer.
	add("-accel", "tcg,thread=single", "-cpu", "max,+svm", "-smp", strconv.Itoa(h.config.CPUs), "-m", strconv.Itoa(h.config.MemoryMiB))
	if h.config.Icount {
		add("-icount", "shift=0,sleep=off")
	}
	add("-kernel", h.vmlinux, "-initrd", h.initrd, "-append", kernelLine)
	add("-serial", "stdio")
	// QEMU reports each reset to standard error, and whether a triple fault caused it.
	add("-d", "cpu_reset")
	add("-device", "virtio-serial-pci")
	add("-chardev", fmt.Sprintf("socket,id=channel,fd=%d", channelFD), "-device", "virtserialport,chardev=channel,name="+channel)
	add("-fsdev", "local,id=root,path=/,readonly=on,security_model=none,multidevs=remap", "-device", "virtio-9p-pci,fsdev=root,mount_tag="+rootTag)
	for _, s := range h.shares() {
		add("-fsdev", "local,id="+s.Tag+",path="+s.Path+",security_model=none,multidevs=remap", "-device", "virtio-9p-pci,fsdev="+s.Tag+",mount_tag="+s.Tag)
	}
	return args
}
