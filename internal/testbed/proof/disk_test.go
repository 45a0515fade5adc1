package proof

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vhosttest"
	"minivmm/vhost"
	"minivmm/vhost/lio"
)

const (
	scsiRings   = 3 // control, event, requests
	scsiRequest = 2
	scsiNum     = 64
	diskBatch   = 16       // requests in flight, each with a descriptor table of its own
	diskBytes   = 16 << 20 // size of the image
	writeBytes  = 64 << 10
	writes      = 128 // 8 MiB
	blockSize   = 512

	// The layout of a request in guest memory.
	requestSpan  = 0x20000
	responseOff  = 0x100
	blocksOff    = 0x1000
	requestSize  = 51  // struct virtio_scsi_cmd_req
	responseSize = 108 // struct virtio_scsi_cmd_resp
)

// diskOptions describe the disk.
type diskOptions struct {
	submitType string // the backstore's attribute; "": the value that minivmm sets
	block      bool   // a block device, not a file
}

// disk is a LIO target with one disk, entirely in memory, and the guest that writes to it.
type disk struct {
	*guest
	target *lio.Target
	device string // major:minor of a block device, like "7:0"
	batch  int
	next   int // the next block to write
}

func newDisk(t testing.TB, m mode, o diskOptions) *disk {
	t.Helper()
	d := &disk{guest: newGuest(t, scsiRequest, scsiNum), batch: diskBatch}
	for i := range d.mem[dataOff:] {
		d.mem[dataOff+i] = byte(i) // this process touches the memory first, so it is charged to this process's cgroup
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, diskBytes)); err != nil {
		t.Fatal(err)
	}
	if o.block {
		node, err := vhosttest.OpenLoop(t, path)
		if err != nil {
			t.Fatal(err)
		}
		path = node
		d.device = read(t, "/sys/class/block/"+filepath.Base(path)+"/dev")
	}
	var err error
	if d.target, err = lio.Create(lio.Config{Name: "proof", LUNs: []lio.LUN{{Path: path}}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.target.Remove(); err != nil {
			t.Error(err)
		}
	})
	if o.submitType != "" {
		attribute := filepath.Join(lio.DefaultRoot, "vhost", d.target.WWPN(), "tpgt_0/lun/lun_0/backstore/attrib/submit_type")
		f, err := os.OpenFile(attribute, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(o.submitType)
			f.Close()
		}
		if err != nil && !(errors.Is(err, os.ErrNotExist) && m == oldKernel) {
			t.Fatal(err)
		}
	}
	return d
}

func (d *disk) start() *start {
	return &start{Rings: scsiRings, Active: []active{{Ring: scsiRequest, Num: scsiNum}}, WWPN: d.target.WWPN()}
}

// serve has an owner serve the disk, and waits until the disk is ready.
func (d *disk) serve(t testing.TB, m mode) (*process, worker) {
	t.Helper()
	p := startOwner(t, m, 0, d.guest)
	w := p.own(vhost.ScsiPath)
	p.do(request{Start: d.start()})
	d.ready()
	return p, w
}

// ready waits until the disk is ready: a new initiator first receives unit attentions.
func (d *disk) ready() {
	d.t.Helper()
	for range 5 {
		if d.requests(1, 0) {
			return
		}
	}
	d.t.Fatal("the disk did not become ready")
}

// reset does what a guest does before it sets up a new device.
func (d *disk) reset() {
	clear(d.span())
	d.offered = 0
}

// write writes writeBytes n times, from the position at which the last write ended.
func (d *disk) write(n int) {
	d.t.Helper()
	for done := 0; done < n; done += d.batch {
		if !d.requests(min(d.batch, n-done), writeBytes) {
			d.t.Fatal("a write failed")
		}
	}
}

// requests sends n requests at once, each a WRITE(10) of sizeBytes bytes or, for 0, a TEST UNIT
// READY. It reports whether all are answered with GOOD.
func (d *disk) requests(n, sizeBytes int) (good bool) {
	d.t.Helper()
	d.submit(n, sizeBytes)
	return d.answered(n)
}

// submit is the first half of requests.
func (d *disk) submit(n, sizeBytes int) {
	d.t.Helper()
	const next, write = 1, 2 // VRING_DESC_F_*
	d.offer(n, func(slot int) uint16 {
		slot %= diskBatch
		head, off := 4*slot, d.data()+slot*requestSpan
		req := d.mem[off:][:requestSize]
		clear(req)
		copy(req, []byte{1, lio.TargetID, 0x40, 0})
		d.describe(head, off, requestSize, next, uint16(head+1))
		if sizeBytes > 0 {
			cdb := req[19:]
			cdb[0] = 0x2a
			binary.BigEndian.PutUint32(cdb[2:], uint32(d.next))
			binary.BigEndian.PutUint16(cdb[7:], uint16(sizeBytes/blockSize))
			d.next = (d.next + sizeBytes/blockSize) % (diskBytes / blockSize)
			d.describe(head+1, off+blocksOff, sizeBytes, next, uint16(head+2))
			head++
		}
		clear(d.mem[off+responseOff:][:responseSize])
		d.mem[off+responseOff+11] = 0xff // a value that no response has
		d.describe(head+1, off+responseOff, responseSize, write, 0)
		return uint16(4 * slot)
	})
}

// answered is the second half of requests.
func (d *disk) answered(n int) (good bool) {
	d.t.Helper()
	if !d.served(testenv.Patience) {
		d.t.Fatal("the worker did not answer")
	}
	good = true
	for i := range n {
		slot := (int(d.offered) - 1 - i) % diskBatch
		r := d.mem[d.data()+slot*requestSpan+responseOff:]
		good = good && r[10] == 0 && r[11] == 0 // GOOD, VIRTIO_SCSI_S_OK
	}
	return good
}

// kworkers is the use of the kernel's workqueues so far.
type kworkers struct {
	ran   time.Duration
	turns int // how often they ran on a CPU
}

func readKworkers(t testing.TB) (k kworkers) {
	t.Helper()
	for _, dir := range tasksIn("/proc") {
		schedstat, err := os.ReadFile(dir + "/schedstat")
		if err != nil || !strings.HasPrefix(comm(dir), "kworker/") {
			continue
		}
		k.ran += ran(string(schedstat))
		if f := strings.Fields(string(schedstat)); len(f) > 2 {
			turns, _ := strconv.Atoi(f[2])
			k.turns += turns
		}
	}
	return k
}

// runsInWorker writes to a file.
func runsInWorker(t *testing.T, m mode, submitType string) string {
	d := newDisk(t, m, diskOptions{submitType: submitType})
	_, w := d.serve(t, m)
	k, its := readKworkers(t), w.ran(t)
	d.write(writes)
	its = w.ran(t) - its
	others := readKworkers(t).ran - k.ran
	t.Logf("worker %v, kworkers %v", its, others)
	if its < 2*others {
		return "in kworkers"
	}
	return ""
}

// charges writes to a file that has no pages in the page cache yet.
func charges(t *testing.T, m mode, submitType string) string {
	d := newDisk(t, m, diskOptions{submitType: submitType})
	p, _ := d.serve(t, m)
	before := p.cgroup.Count("memory.stat", "file")
	d.write(writes)
	charged := p.cgroup.Count("memory.stat", "file") - before
	t.Logf("%d bytes of %d", charged, writes*writeBytes)
	switch {
	case charged >= writes*writeBytes*9/10:
		return ""
	case charged <= writes*writeBytes/10:
		return "to the host's"
	default:
		return "in part"
	}
}

// causesIO writes to a block device.
func causesIO(t *testing.T, m mode, submitType string) string {
	d := newDisk(t, m, diskOptions{submitType: submitType, block: true})
	p, _ := d.serve(t, m)
	written := func() (n int) {
		for _, f := range strings.Fields(field(p.cgroup.Read("io.stat"), d.device+" ")) {
			fmt.Sscanf(f, "wbytes=%d", &n)
		}
		return n
	}
	before := written()
	d.write(writes)
	its := written() - before
	t.Logf("%d bytes of %d", its, writes*writeBytes)
	switch {
	case its >= writes*writeBytes*9/10:
		return ""
	case its <= writes*writeBytes/10:
		return "the host's"
	default:
		return "in part"
	}
}

func directRuns(t *testing.T, m mode) string    { return runsInWorker(t, m, "") }
func directCharges(t *testing.T, m mode) string { return charges(t, m, "") }
func directIO(t *testing.T, m mode) string      { return causesIO(t, m, "") }

func defaultRuns(t *testing.T, m mode) string    { return runsInWorker(t, m, "0") }
func defaultCharges(t *testing.T, m mode) string { return charges(t, m, "0") }
func defaultIO(t *testing.T, m mode) string      { return causesIO(t, m, "0") }

// directAlone sends one request at a time, so that each would need a kworker to run again.
func directAlone(t *testing.T, m mode) string {
	d := newDisk(t, m, diskOptions{})
	d.batch = 1
	d.serve(t, m)
	k := readKworkers(t)
	d.write(writes)
	turns := readKworkers(t).turns - k.turns
	t.Logf("%d turns of kworkers for %d requests", turns, writes)
	if turns >= writes {
		return "one runs for each request"
	}
	return ""
}
