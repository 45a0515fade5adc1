package vhost

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
)

// fakeKernel enforces the rules of drivers/vhost about the order of calls. It is stricter where the
// kernel accepts a mistake that loses kicks or memory. It records the calls.
type fakeKernel struct {
	scsi     bool
	noFork   bool // without the fork mode
	failAt   string
	calls    []string
	owner    bool
	memory   bool
	features uint64
	rings    map[uint32]*fakeRing
	endpoint string
}

type fakeRing struct {
	num, base, addr, kick, backend bool
}

func (k *fakeKernel) device() *Device {
	const nobodys = 1 << 30 // no such descriptor
	return &Device{f: os.NewFile(nobodys, "/dev/fake"), hook: k.ioctl}
}

func (k *fakeKernel) ring(index uint32) *fakeRing {
	if k.rings == nil {
		k.rings = make(map[uint32]*fakeRing)
	}
	if k.rings[index] == nil {
		k.rings[index] = &fakeRing{}
	}
	return k.rings[index]
}

func (k *fakeKernel) ioctl(r ioctl.Request, arg any) error {
	name := strings.TrimPrefix(r.Name, "VHOST_")
	var errno unix.Errno
	if name == k.failAt {
		errno = unix.ENOMEM
	} else {
		errno = k.do(r, arg)
	}
	switch arg := arg.(type) {
	case *vringState:
		name = fmt.Sprintf("%s(%d)", name, arg.index)
	case *vringAddr:
		name = fmt.Sprintf("%s(%d)", name, arg.index)
	case *vringFile:
		name = fmt.Sprintf("%s(%d,%d)", name, arg.index, arg.fd)
	}
	k.calls = append(k.calls, name)
	if errno != 0 {
		return &os.PathError{Op: r.Name, Path: "/dev/fake", Err: errno}
	}
	return nil
}

func (k *fakeKernel) do(r ioctl.Request, arg any) unix.Errno {
	switch r {
	case setForkFromOwner:
		if k.noFork {
			return unix.EPERM
		}
		if k.owner {
			return unix.EBUSY
		}
		return 0
	case getFeatures:
		*arg.(*uint64) = 1<<32 | netVirtioNetHdr | 1<<15
		return 0
	}
	if r != setOwner && !k.owner {
		return unix.EPERM
	}
	switch r {
	case setOwner:
		if k.owner {
			return unix.EBUSY
		}
		k.owner = true
	case setFeatures:
		k.features = *arg.(*uint64)
	case setMemTable:
		k.memory = true
	case setVringNum:
		ring := k.ring(arg.(*vringState).index)
		if ring.backend || k.endpoint != "" {
			return unix.EBUSY
		}
		ring.num = true
	case setVringBase:
		ring := k.ring(arg.(*vringState).index)
		if ring.backend || k.endpoint != "" {
			return unix.EBUSY
		}
		ring.base = true
	case setVringAddr:
		ring := k.ring(arg.(*vringAddr).index)
		if !ring.num { // the kernel checks num entries
			return unix.EINVAL
		}
		ring.addr = true
	case setVringKick:
		a := arg.(*vringFile)
		if k.scsi && a.fd >= 0 && k.endpoint == "" {
			return unix.EDEADLK // the kick would be lost
		}
		k.ring(a.index).kick = a.fd >= 0
	case netSetBackend:
		a := arg.(*vringFile)
		ring := k.ring(a.index)
		if !k.memory || !ring.num || !ring.base || !ring.addr || !ring.kick {
			return unix.EFAULT
		}
		ring.backend = a.fd >= 0
	case scsiSetEndpoint:
		if !k.memory {
			return unix.EFAULT
		}
		if k.endpoint != "" {
			return unix.EEXIST
		}
		wwpn := arg.(*scsiTarget).wwpn
		k.endpoint = unix.ByteSliceToString(wwpn[:])
	case scsiClearEndpoint:
		k.endpoint = ""
	}
	return 0
}

func testSetup() Setup {
	return Setup{
		Features: 1 << 32,
		Memory:   []MemoryRegion{{GPA: 0, SizeBytes: 1 << 20, HVA: 0x7f0000000000}},
		Vrings: []Vring{
			{Index: 0, Num: 256, Kick: 10, Call: 11, Err: 12},
			{Index: 1, Num: 256, Kick: 20, Call: 21, Err: 22},
		},
	}
}

func TestNetStartKeepsTheOrder(t *testing.T) {
	k := &fakeKernel{}
	n := &Net{k.device()}
	if err := n.SetOwner(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice, to test a start after a stop
		k.calls = nil
		if err := n.Start(testSetup(), 5); err != nil {
			t.Fatal(err)
		}
		want := "SET_FEATURES SET_MEM_TABLE" +
			" SET_VRING_NUM(0) SET_VRING_BASE(0) SET_VRING_ADDR(0) SET_VRING_CALL(0,11) SET_VRING_ERR(0,12)" +
			" SET_VRING_NUM(1) SET_VRING_BASE(1) SET_VRING_ADDR(1) SET_VRING_CALL(1,21) SET_VRING_ERR(1,22)" +
			" SET_VRING_KICK(0,10) SET_VRING_KICK(1,20) NET_SET_BACKEND(0,5) NET_SET_BACKEND(1,5)"
		if got := strings.Join(k.calls, " "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		if k.rings[0].backend || k.rings[1].backend {
			t.Error("a ring has a backend after Stop")
		}
	}
}

func TestNetStartThatFailsLeavesNothingConnected(t *testing.T) {
	k := &fakeKernel{owner: true}
	n := &Net{k.device()}
	k.hookOnce(n.Device, netSetBackend, 2)
	err := n.Start(testSetup(), 5)
	if !errors.Is(err, unix.ENOTSOCK) || !strings.Contains(err.Error(), "ring 1: VHOST_NET_SET_BACKEND") {
		t.Errorf("got %v, want ENOTSOCK of ring 1", err)
	}
	if k.rings[0].backend {
		t.Error("ring 0 is still connected")
	}
}

// hookOnce makes the nth call of a request fail with ENOTSOCK.
func (k *fakeKernel) hookOnce(d *Device, r ioctl.Request, nth int) {
	d.hook = func(got ioctl.Request, arg any) error {
		if got == r {
			if nth--; nth == 0 {
				return &os.PathError{Op: r.Name, Path: "/dev/fake", Err: unix.ENOTSOCK}
			}
		}
		return k.ioctl(got, arg)
	}
}

func TestNetRefusesBit27(t *testing.T) {
	k := &fakeKernel{owner: true}
	n := &Net{k.device()}
	s := testSetup()
	s.Features |= netVirtioNetHdr
	k.calls = nil
	if err := n.Start(s, 5); !errors.Is(err, unix.EINVAL) || len(k.calls) > 0 {
		t.Errorf("got %v after %v, want EINVAL before any call", err, k.calls)
	}
}

func TestScsiStartSetsKicksLast(t *testing.T) {
	k := &fakeKernel{scsi: true, owner: true}
	s := &Scsi{k.device()}
	setup := testSetup()
	setup.Vrings = append(setup.Vrings, Vring{Index: 2, Num: 64, Kick: 30, Call: 31, Err: -1})
	for range 2 {
		k.calls = nil
		if err := s.Start(setup, "naa.5000000000000001"); err != nil {
			t.Fatal(err)
		}
		if k.endpoint != "naa.5000000000000001" {
			t.Errorf("endpoint %q", k.endpoint)
		}
		want := "SET_VRING_NUM(2) SET_VRING_BASE(2) SET_VRING_ADDR(2) SET_VRING_CALL(2,31) SET_VRING_ERR(2,-1)" +
			" SCSI_SET_ENDPOINT SET_VRING_KICK(0,10) SET_VRING_KICK(1,20) SET_VRING_KICK(2,30)"
		if got := strings.Join(k.calls, " "); !strings.HasSuffix(got, want) {
			t.Errorf("got  %s\nwant ... %s", got, want)
		}
		if err := s.Stop("naa.5000000000000001", setup.Vrings); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScsiStartThatFailsLeavesNothingConnected(t *testing.T) {
	k := &fakeKernel{scsi: true, owner: true, failAt: "SET_VRING_KICK"}
	s := &Scsi{k.device()}
	if err := s.Start(testSetup(), "naa.1"); !errors.Is(err, unix.ENOMEM) {
		t.Errorf("got %v, want ENOMEM", err)
	}
	if k.endpoint != "" {
		t.Errorf("endpoint %q is still set", k.endpoint)
	}
}

func TestStartBeforeOwnerIsAnError(t *testing.T) {
	k := &fakeKernel{}
	if err := (&Net{k.device()}).Start(testSetup(), 5); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want EPERM", err)
	}
}

func TestMissingForkModeIsUnsupported(t *testing.T) {
	d := (&fakeKernel{noFork: true}).device()
	err := d.SetForkFromOwner(true)
	if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "Linux 6.17") {
		t.Errorf("got %v", err)
	}
	d = (&fakeKernel{owner: true}).device()
	if err := d.SetForkFromOwner(true); !errors.Is(err, unix.EBUSY) || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("after SetOwner: %v, want EBUSY", err)
	}
}

func TestArgumentsThatAreTooLarge(t *testing.T) {
	d := (&fakeKernel{owner: true}).device()
	if err := d.setMemTable(make([]MemoryRegion, maxMemRegions+1)); !errors.Is(err, unix.E2BIG) {
		t.Errorf("65 regions: %v, want E2BIG", err)
	}
	s := &Scsi{d}
	if err := s.setEndpoint(strings.Repeat("x", 224)); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a wwpn of 224 bytes: %v, want ENAMETOOLONG", err)
	}
}

func TestOpenErrorSaysWhatToDo(t *testing.T) {
	for _, test := range []struct {
		path string
		err  error
		hint string
	}{
		{NetPath, unix.ENOENT, "modprobe vhost_net"},
		{ScsiPath, unix.ENOENT, "modprobe vhost_scsi"},
		{ScsiPath, unix.ENODEV, "/proc/misc"},
		{NetPath, unix.EACCES, "udev rule"},
		{NetPath, unix.EMFILE, ""},
	} {
		err := openError(test.path, test.err)
		if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.hint) {
			t.Errorf("%s, %v: got %q, want the hint %q", test.path, test.err, err, test.hint)
		}
	}
}
