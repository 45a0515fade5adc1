package scsi

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/scsi/target"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// newInProcess creates the device over the units.
func newInProcess(t testing.TB, units ...target.Unit) *Device {
	t.Helper()
	tg, err := target.New(units)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{RequestQueues: 2, QueueSize: 64}, NewInProcess(tg))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// imageUnit returns a unit over a new file of 1 MiB.
func imageUnit(t testing.TB) target.Unit {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	return target.Unit{Store: target.NewFile(f), SizeBytes: 1 << 20, BlockSize: 512, Serial: "serial-1"}
}

func TestInProcessConforms(t *testing.T) {
	for name, slow := range map[string]bool{"a file": false, "a file that blocks": true} {
		t.Run(name, func(t *testing.T) {
			virtiotest.TestDevice(t, func(t testing.TB) virtio.Device {
				u := imageUnit(t)
				if slow {
					u.Store = &gate{Store: u.Store}
				}
				return newInProcess(t, u)
			}, virtiotest.Suite{Traffic: traffic, Hostile: requestQueue, Shape: shape, Lives: 100})
		})
	}
}

// gate is a store in which every transfer would block, and does block while the gate is shut.
type gate struct {
	target.Store
	mu      sync.Mutex
	shut    chan struct{}
	waiting chan struct{} // receives one value for each blocked transfer
}

func (g *gate) pass(flags int) error {
	if flags&unix.RWF_NOWAIT != 0 {
		return unix.EAGAIN
	}
	g.mu.Lock()
	shut, waiting := g.shut, g.waiting
	g.mu.Unlock()
	if shut != nil {
		waiting <- struct{}{}
		<-shut
	}
	return nil
}

func (g *gate) ReadV(bufs [][]byte, off int64, flags int) (int, error) {
	if err := g.pass(flags); err != nil {
		return 0, err
	}
	return g.Store.ReadV(bufs, off, flags)
}

func (g *gate) WriteV(bufs [][]byte, off int64, flags int) (int, error) {
	if err := g.pass(flags); err != nil {
		return 0, err
	}
	return g.Store.WriteV(bufs, off, flags)
}

// post adds a command to a request queue without waiting, and returns its answer and data buffers.
func post(d *virtiotest.Driver, queue int, id uint64, lun []byte, cdb []byte, in int) (answer, data []byte) {
	gpa, h := d.Buffer(requestBytes)
	clear(h)
	copy(h, lun)
	binary.LittleEndian.PutUint64(h[8:], id)
	copy(h[19:], cdb)
	answerGPA, answer := d.Buffer(responseBytes)
	chain := []queuetest.Desc{{GPA: gpa, Len: requestBytes}, {GPA: answerGPA, Len: responseBytes, Flags: queuetest.Write}}
	if in > 0 {
		var room guestmem.GPA
		room, data = d.Buffer(in)
		chain = append(chain, queuetest.Desc{GPA: room, Len: uint32(in), Flags: queuetest.Write})
	}
	d.Rings[queue].Add(chain...)
	d.Rings[queue].Kick()
	return answer, data
}

func waitUsed(t testing.TB, d *virtiotest.Driver, queue, n int) {
	t.Helper()
	for range n {
		if _, err := d.Rings[queue].WaitUsed(testenv.Patience); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAFileThatBlocksDelaysNoOtherRequest blocks 16 reads at the same time and sends another
// command in the meantime.
func TestAFileThatBlocksDelaysNoOtherRequest(t *testing.T) {
	u := imageUnit(t)
	g := &gate{Store: u.Store}
	u.Store = g
	d := virtiotest.NewDriver(t, newInProcess(t, u))
	d.Start(0)
	inquiry(t, d, requestQueue)
	command(t, d, requestQueue, make([]byte, 6), nil, 0) // clears the unit attention
	const depth = 16
	shut, waiting := make(chan struct{}), make(chan struct{}, depth)
	g.mu.Lock()
	g.shut, g.waiting = shut, waiting
	g.mu.Unlock()
	for i := range depth {
		post(d, requestQueue, uint64(i), lun0, []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512)
	}
	for range depth {
		select {
		case <-waiting:
		case <-time.After(testenv.Patience):
			t.Fatal("the reads wait for each other")
		}
	}
	inquiry(t, d, requestQueue)
	inquiry(t, d, requestQueue+1)
	close(shut)
	waitUsed(t, d, requestQueue, depth)
}

// TestTaskManagement aborts blocked reads: the function completes after them, and their responses
// report the abort.
func TestTaskManagement(t *testing.T) {
	const abortTask, abortTaskSet, clearACA, reset, nexusReset, queryTask, queryTaskSet = 0, 1, 2, 5, 4, 6, 7
	read := []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	for _, tc := range []struct {
		name     string
		function byte
		id       uint64
		lun      []byte
		waits    bool // for the reads
		want     byte
		answers  [2]byte // the responses of reads 1 and 2
	}{
		{"abort one", abortTask, 1, lun0, true, 0, [2]byte{2, 0}},
		{"abort all", abortTaskSet, 0, lun0, true, 0, [2]byte{2, 2}},
		{"reset", reset, 0, lun0, true, 0, [2]byte{4, 4}},
		{"nexus reset", nexusReset, 0, lun0, true, 0, [2]byte{4, 4}},
		{"query one", queryTask, 2, lun0, false, 10, [2]byte{}},
		{"query another", queryTask, 3, lun0, false, 0, [2]byte{}},
		{"query all", queryTaskSet, 0, lun0, false, 10, [2]byte{}},
		{"abort another", abortTask, 7, lun0, false, 0, [2]byte{}},
		{"clear ACA", clearACA, 0, lun0, false, 11, [2]byte{}},
		{"no such unit", reset, 0, []byte{1, 0, 0x40, 9, 0, 0, 0, 0}, false, 12, [2]byte{}},
		{"no such target", reset, 0, []byte{1, 7, 0x40, 0, 0, 0, 0, 0}, false, 3, [2]byte{}},
		{"no such function", 99, 0, lun0, false, 11, [2]byte{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := imageUnit(t)
			shut, waiting := make(chan struct{}), make(chan struct{}, 2)
			g := &gate{Store: u.Store}
			u.Store = g
			dev := newInProcess(t, u)
			d := virtiotest.NewDriver(t, dev)
			d.Start(everything)
			command(t, d, requestQueue, make([]byte, 6), nil, 0)
			g.mu.Lock()
			g.shut, g.waiting = shut, waiting
			g.mu.Unlock()
			one, _ := post(d, requestQueue, 1, lun0, read, 512)
			<-waiting
			two, _ := post(d, requestQueue+1, 2, lun0, read, 512)
			<-waiting
			header, h := d.Buffer(24)
			clear(h)
			h[4] = tc.function
			copy(h[8:], tc.lun)
			binary.LittleEndian.PutUint64(h[16:], tc.id)
			answer, a := d.Buffer(1)
			a[0] = 0xa5
			d.Rings[controlQueue].Add(queuetest.Desc{GPA: header, Len: 24}, queuetest.Desc{GPA: answer, Len: 1, Flags: queuetest.Write})
			d.Rings[controlQueue].Kick()
			if !tc.waits {
				waitUsed(t, d, controlQueue, 1)
			} else if _, early := d.Rings[controlQueue].Used(); early {
				t.Error("answered before the commands have completed")
			} else {
				for !underCancellation(dev, len(bytes.Trim(tc.answers[:], "\x00"))) {
					runtime.Gosched()
				}
			}
			close(shut)
			if tc.waits {
				waitUsed(t, d, controlQueue, 1)
			}
			waitUsed(t, d, requestQueue, 1)
			waitUsed(t, d, requestQueue+1, 1)
			if a[0] != tc.want {
				t.Errorf("response %d, want %d", a[0], tc.want)
			}
			if one[11] != tc.answers[0] || two[11] != tc.answers[1] {
				t.Errorf("the reads have responses %d and %d, want %v", one[11], two[11], tc.answers)
			}
		})
	}
}

// TestAResetLeavesTheCacheOff disables the write cache, as a guest does that sends no flushes. A
// new driver finds it enabled.
func TestAResetLeavesTheCacheOff(t *testing.T) {
	const nexusReset, unitReset = 4, 5
	dev := newInProcess(t, imageUnit(t))
	d := virtiotest.NewDriver(t, dev)
	d.Start(everything)
	caching := func() byte { return command(t, d, requestQueue, []byte{0x1a, 8, 8, 0, 24, 0}, nil, 24)[4+2] }
	if caching() != 4 {
		t.Fatal("the cache is off from the start")
	}
	page := append([]byte{0, 0, 0, 0, 8, 0x12}, make([]byte, 18)...)
	page[4+12] = 0x20 // DRA
	command(t, d, requestQueue, []byte{0x15, 0x10, 0, 0, byte(len(page)), 0}, page, 0)
	for _, function := range []byte{unitReset, nexusReset} {
		header := make([]byte, 24)
		header[4] = function
		copy(header[8:], lun0)
		if answer, _ := exchange(t, d, controlQueue, header, nil, 1, 0); answer[0] != 0 {
			t.Errorf("task management function %d: response %d", function, answer[0])
		}
		if caching() != 0 {
			t.Errorf("task management function %d: the cache is on", function)
		}
	}
	d.Reset()
	d.Start(everything)
	if caching() != 4 {
		t.Error("the cache is off for a new driver")
	}
}

// underCancellation reports whether n requests of the device are cancelled but not answered yet.
func underCancellation(dev *Device, n int) bool {
	for _, l := range dev.backend.(*InProcess).active.Load().lanes {
		if l.has(func(r *request) bool { return r.command.Cancelled.Load() }) {
			n--
		}
	}
	return n == 0
}

// TestResponses checks the responses that do not come from the unit, and the residuals.
func TestResponses(t *testing.T) {
	d := virtiotest.NewDriver(t, newInProcess(t, imageUnit(t)))
	d.Start(0)
	command(t, d, requestQueue, make([]byte, 6), nil, 0)
	read := []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0}
	for _, tc := range []struct {
		name     string
		lun      []byte
		cdb      []byte
		in       int
		response byte
		status   byte
		residual uint32
		used     uint32
	}{
		{"exact", lun0, read, 1024, 0, 0, 0, 108 + 1024},
		{"more room", lun0, read, 1500, 0, 0, 476, 108 + 1024},
		{"less room", lun0, read, 1000, 1, 0, 1000, 108},
		{"no room", lun0, read, 0, 1, 0, 0, 108},
		{"refused", lun0, []byte{0xff}, 700, 0, 2, 700, 108},
		{"another target", []byte{1, 1, 0x40, 0, 0, 0, 0, 0}, read, 1024, 3, 0, 1024, 108},
		{"no virtio address", []byte{0, 0, 0x40, 0, 0, 0, 0, 0}, read, 1024, 3, 0, 1024, 108},
		{"well known unit", []byte{0xc1, 1, 0, 0, 0, 0, 0, 0}, read, 1024, 3, 0, 1024, 108},
		{"more levels", []byte{1, 0, 0x40, 0, 0x40, 0, 0, 0}, read, 1024, 3, 0, 1024, 108},
		{"no such unit", []byte{1, 0, 0x40, 1, 0, 0, 0, 0}, read, 1024, 0, 2, 1024, 108},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer, _ := post(d, requestQueue, 1, tc.lun, tc.cdb, tc.in)
			u, err := d.Rings[requestQueue].WaitUsed(testenv.Patience)
			if err != nil {
				t.Fatal(err)
			}
			residual := binary.LittleEndian.Uint32(answer[4:])
			if answer[11] != tc.response || answer[10] != tc.status || residual != tc.residual || u.Len != tc.used {
				t.Errorf("response %d, status %d, residual %d, %d bytes written, want %+v", answer[11], answer[10], residual, u.Len, tc)
			}
		})
	}
}

// TestHowADriverSplitsARequestHasNoMeaning splits header, data and answer into pieces of odd
// lengths.
func TestHowADriverSplitsARequestHasNoMeaning(t *testing.T) {
	d := virtiotest.NewDriver(t, newInProcess(t, imageUnit(t)))
	d.Start(everything)
	block := bytes.Repeat([]byte("minivmm "), 64)
	command(t, d, requestQueue, []byte{0x2a, 0, 0, 0, 0, 5, 0, 0, 1, 0}, block, 0)
	header, h := d.Buffer(requestBytes)
	clear(h)
	copy(h, lun0)
	copy(h[19:], []byte{0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0})
	answer, a := d.Buffer(responseBytes + 512)
	var chain []queuetest.Desc
	for at := 0; at < requestBytes; at += 7 {
		chain = append(chain, queuetest.Desc{GPA: header + guestmem.GPA(at), Len: uint32(min(7, requestBytes-at))})
	}
	for at := 0; at < len(a); at += 37 {
		chain = append(chain, queuetest.Desc{GPA: answer + guestmem.GPA(at), Len: uint32(min(37, len(a)-at)), Flags: queuetest.Write})
	}
	table, _ := d.Buffer(16 * len(chain))
	d.Rings[requestQueue].AddIndirect(table, chain...)
	d.Rings[requestQueue].Kick()
	waitUsed(t, d, requestQueue, 1)
	if a[10] != 0 || a[11] != 0 || !bytes.Equal(a[responseBytes:], block) {
		t.Errorf("% x, read % x...", a[:12], a[responseBytes:responseBytes+16])
	}
}

// TestATooSmallResponseBufferFailsTheDevice: the kernel's target does the same.
func TestATooSmallResponseBufferFailsTheDevice(t *testing.T) {
	for name, chain := range map[string][]queuetest.Desc{
		"response buffer too small": {{GPA: virtiotest.BufferBase, Len: requestBytes}, {GPA: virtiotest.BufferBase, Len: 107, Flags: queuetest.Write}},
		"short header":              {{GPA: virtiotest.BufferBase, Len: 50}, {GPA: virtiotest.BufferBase, Len: responseBytes, Flags: queuetest.Write}},
	} {
		t.Run(name, func(t *testing.T) {
			d := virtiotest.NewDriver(t, newInProcess(t, imageUnit(t)))
			d.Start(everything)
			d.Rings[requestQueue].Add(chain...)
			d.Rings[requestQueue].Kick()
			if err := d.WaitNeedsReset(); err != nil {
				t.Error(err)
			}
			d.Reset()
			d.Start(everything)
			traffic(t, d)
		})
	}
}
