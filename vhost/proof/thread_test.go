package proof

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/vhost"
)

func isThread(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	w := p.own(vhost.NetPath)
	const ppidField, kthreadd = 4, 2
	flags := statNumber(t, w.dir, flagsField)
	switch user, kthread := flags&pfUserWorker != 0, flags&pfKthread != 0; {
	case w.isThread() && user && !kthread:
		return ""
	case !w.isThread() && kthread && statNumber(t, w.dir, ppidField) == kthreadd:
		return "a child of kthreadd"
	}
	t.Fatalf("%+v has flags %#x", w, flags)
	return ""
}

func sharesMemory(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	w := p.own(vhost.NetPath)
	const kcmpVM = 1 // KCMP_VM (linux/kcmp.h)
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(w.pid), uintptr(w.tid), kcmpVM, 0, 0, 0)
	if errno != 0 {
		t.Fatal(os.NewSyscallError("kcmp", errno))
	}
	if r != 0 {
		return "another address space"
	}
	return ""
}

func holdsNoFiles(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	w := p.own(vhost.NetPath)
	files, err := os.ReadDir(w.dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) > 0 {
		return "it has descriptors"
	}
	return ""
}
