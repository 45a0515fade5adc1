package lio

import (
	"encoding/binary"
	"reflect"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/vhost"
)

// guest is a minimal vhost-scsi driver that sends one request at a time.
type guest struct {
	t    *testing.T
	dev  *vhost.Scsi
	mem  []byte
	ring vhost.Vring
	next uint16
}

const (
	guestGPA  = 0x100000
	guestRing = 2 // of three, each in its own page: desc, avail, used
	offAvail  = 0x400
	offUsed   = 0x800
	offReq    = 0x4000 // after the rings' pages: request, response, data
	offResp   = 0x4100
	offData   = 0x5000
	guestSize = 0x10000
)

func newGuest(t *testing.T, wwpn string) *guest {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	dev, err := vhost.OpenScsi()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(-1, 0, guestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, dev: dev, mem: mem}
	t.Cleanup(func() { g.dev.Close(); unix.Munmap(mem) })
	if _, err := dev.SetOwnerHere(); err != nil {
		t.Fatal(err)
	}
	base := reflect.ValueOf(mem).Pointer()
	setup := vhost.Setup{
		Features: 1 << 32,
		Memory:   []vhost.MemoryRegion{{GPA: guestGPA, SizeBytes: guestSize, HVA: base}},
	}
	for i := range uint32(3) {
		page := base + uintptr(i)*0x1000
		ring := vhost.Vring{Index: i, Num: 16, Desc: page, Avail: page + offAvail, Used: page + offUsed, Kick: -1, Call: -1, Err: -1}
		if i == guestRing {
			for _, fd := range []*int{&ring.Kick, &ring.Call} {
				if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { unix.Close(*fd) })
			}
			g.ring = ring
		}
		setup.Vrings = append(setup.Vrings, ring)
	}
	if err := dev.Start(setup, wwpn); err != nil {
		t.Fatal(err)
	}
	return g
}

// request puts a SCSI command in the ring without notifying the device. It has data to write, or
// room for data to read.
func (g *guest) request(lun int, cdb []byte, write bool, data []byte) {
	le := binary.LittleEndian
	clear(g.mem[offReq : offReq+51])
	clear(g.mem[offResp : offResp+108])
	copy(g.mem[offReq:], []byte{1, TargetID, 0x40 | byte(lun>>8), byte(lun)})
	copy(g.mem[offReq+19:], cdb)
	g.mem[offResp+11] = 0xff // an unused response code
	copy(g.mem[offData:], data)

	const flagNext, flagWrite = 1, 2
	type part struct{ off, n, flags int }
	parts := []part{{offReq, 51, 0}, {offResp, 108, flagWrite}}
	if write {
		parts = []part{{offReq, 51, 0}, {offData, len(data), 0}, {offResp, 108, flagWrite}}
	} else if len(data) > 0 {
		parts = append(parts, part{offData, len(data), flagWrite})
	}
	page := g.mem[guestRing*0x1000:]
	for i, p := range parts {
		d := page[16*i:]
		flags := p.flags
		if i < len(parts)-1 {
			flags |= flagNext
		}
		le.PutUint64(d, uint64(guestGPA+p.off))
		le.PutUint32(d[8:], uint32(p.n))
		le.PutUint16(d[12:], uint16(flags))
		le.PutUint16(d[14:], uint16(i+1))
	}
	le.PutUint16(page[offAvail+4+2*int(g.next%16):], 0)
	g.next++
	le.PutUint16(page[offAvail+2:], g.next)
}

func (g *guest) kick() {
	if _, err := unix.Write(g.ring.Kick, binary.NativeEndian.AppendUint64(nil, 1)); err != nil {
		g.t.Fatal(err)
	}
}

// wait waits for the response and returns its SCSI status and sense key.
func (g *guest) wait() (status, key byte) {
	g.t.Helper()
	used := g.mem[guestRing*0x1000+offUsed+2:]
	for deadline := time.Now().Add(3 * time.Minute); binary.LittleEndian.Uint16(used) != g.next; {
		if time.Now().After(deadline) {
			g.t.Fatal("no response within 3 min")
		}
		fds := []unix.PollFd{{Fd: int32(g.ring.Call), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, 1000); n > 0 {
			unix.Read(g.ring.Call, make([]byte, 8))
		}
	}
	resp := g.mem[offResp:]
	if resp[11] != 0 {
		g.t.Fatalf("virtio response %d", resp[11])
	}
	return resp[10], resp[12+2] & 0xf
}

// do sends a command and waits for it. On a unit attention, which a new initiator gets once, it
// repeats the command.
func (g *guest) do(lun int, cdb []byte, write bool, data []byte) (status, key byte) {
	g.t.Helper()
	const unitAttention = 6
	for range 5 {
		g.request(lun, cdb, write, data)
		g.kick()
		if status, key = g.wait(); status == 0 || key != unitAttention {
			break
		}
	}
	return status, key
}

var (
	read10  = []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0} // block 0
	write10 = []byte{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}
)
