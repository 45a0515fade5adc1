package proof

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/vhosttest"
	"minivmm/vhost"
)

// ownerEnv turns this binary into the owner of workers.
const ownerEnv = "MINIVMM_PROOF_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) == "" {
		os.Exit(m.Run())
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// request is a request to the owner, a line of JSON. The owner carries out its parts in this order
// and skips those that are zero. All of it happens on one thread, which is not the leader of its
// process.
type request struct {
	Prepare *thread // change the properties of the thread
	Nproc   *int    // set RLIMIT_NPROC to the number of the user's tasks plus this number
	Own     string  // open this device node and become its owner
	Kthread bool    // with Own: ask for a kernel thread
	Start   *start  // serve the guest's rings
}

// thread holds thread properties that a worker could inherit.
type thread struct {
	Unshare uintptr // CLONE_NEW* flags
	CPU     int
	Nice    int
	Policy  uint32 // SCHED_*
	Cgroup  string // a cgroup.threads file; "": unchanged
}

// start tells the owner where the guest's rings are.
type start struct {
	Device int // index among the devices that the owner owns
	First  int // the device's first ring, in the guest's memory
	Rings  int // number of the device's rings
	Active []active
	WWPN   string

	BusyPoll uint32 // us
}

// active is a ring that the guest uses.
type active struct {
	Ring      int // index among the device's rings
	Num       int // descriptors
	Guest     int // index among the owner's guests, for its eventfds and tap
	OwnWorker bool
}

// reply is the owner's answer, a line of JSON.
type reply struct {
	TID   int // the thread that carried out the request
	Tasks int // with Nproc: the number of the user's tasks
	Err   string
}

// Descriptors that the owner inherits: the memory, then three for each guest.
const fdMemory = 3

func fdKick(guest int) int { return fdMemory + 1 + 3*guest }
func fdCall(guest int) int { return fdKick(guest) + 1 }
func fdTap(guest int) int  { return fdKick(guest) + 2 }

// serve answers requests until the input ends.
func serve(in io.Reader, out io.Writer) error {
	spareThreads(12)
	var o owner
	return vhost.OnThreadOfItsOwn(func() error {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			var q request
			if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
				return err
			}
			answer := reply{TID: unix.Gettid()}
			if err := o.do(q, &answer); err != nil {
				answer.Err = err.Error()
			}
			b, err := json.Marshal(answer)
			if err == nil {
				_, err = out.Write(append(b, '\n'))
			}
			if err != nil {
				return err
			}
		}
		return lines.Err()
	})
}

type owner struct{ devices []*vhost.Device }

func (o *owner) do(q request, answer *reply) error {
	if q.Prepare != nil {
		if err := q.Prepare.apply(); err != nil {
			return err
		}
	}
	if q.Nproc != nil {
		answer.Tasks = tasksOf(os.Getuid())
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		limit.Cur = uint64(answer.Tasks + *q.Nproc)
		if err := unix.Setrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	if q.Own != "" {
		if err := o.own(q.Own, q.Kthread); err != nil {
			return err
		}
	}
	if q.Start != nil {
		return o.start(*q.Start)
	}
	return nil
}

func (th thread) apply() error {
	if err := unix.Unshare(int(th.Unshare)); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if th.Cgroup != "" {
		if err := os.WriteFile(th.Cgroup, fmt.Append(nil, unix.Gettid()), 0); err != nil {
			return err
		}
	}
	var set unix.CPUSet
	set.Set(th.CPU)
	return errors.Join(
		os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set)),
		os.NewSyscallError("sched_setattr", unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: th.Policy, Nice: int32(th.Nice)}, 0)),
	)
}

// own opens a device and becomes its owner as minivmm does, or asks for a kernel thread, which
// minivmm never does. If it cannot become the owner, it closes the device.
func (o *owner) own(node string, kthread bool) error {
	dev, err := vhost.Open(node)
	if err != nil {
		return err
	}
	if kthread {
		if err = dev.SetForkFromOwner(false); err == nil {
			err = dev.SetOwner()
		}
	} else {
		_, err = dev.SetOwnerHere()
	}
	if err != nil {
		return errors.Join(err, dev.Close())
	}
	o.devices = append(o.devices, dev)
	return nil
}

func (o *owner) start(s start) error {
	mem, err := unix.Mmap(fdMemory, 0, guestSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	base := reflect.ValueOf(mem).Pointer()
	dev := o.devices[s.Device]
	setup := vhost.Setup{
		Features: featureVersion1 | featureEventIdx,
		Memory:   []vhost.MemoryRegion{{GPA: guestGPA, SizeBytes: guestSize, HVA: base}},
	}
	for i := range s.Rings {
		ring := base + uintptr(s.First+i)*ringSpan
		v := vhost.Vring{Index: uint32(i), Num: idleRing, Desc: ring, Avail: ring + ringAvail, Used: ring + ringUsed, Kick: -1, Call: -1, Err: -1}
		for _, a := range s.Active {
			if a.Ring != i {
				continue
			}
			v.Num, v.Kick, v.Call = uint32(a.Num), fdKick(a.Guest), fdCall(a.Guest)
			if a.OwnWorker {
				id, err := dev.NewWorker()
				if err != nil {
					return err
				}
				if err := dev.AttachVringWorker(v.Index, id); err != nil {
					return err
				}
			}
		}
		if s.BusyPoll > 0 {
			if err := dev.SetVringBusyloopTimeout(v.Index, s.BusyPoll); err != nil {
				return err
			}
		}
		setup.Vrings = append(setup.Vrings, v)
	}
	if s.WWPN != "" {
		return (&vhost.Scsi{Device: dev}).Start(setup, s.WWPN)
	}
	return (&vhost.Net{Device: dev}).Start(setup, fdTap(s.Active[0].Guest))
}

// process is the owner, as the test sees it.
type process struct {
	t       testing.TB
	mode    mode
	cmd     *exec.Cmd
	cgroup  *vhosttest.Cgroup
	ask     io.WriteCloser
	answers *bufio.Reader
	stderr  strings.Builder
	ended   bool
}

// startOwner starts an owner in a cgroup of its own, as another user if uid is not 0. The owner
// inherits everything that it needs to serve the guests, which are rings in one memory.
func startOwner(t testing.TB, m mode, uid int, guests ...*guest) *process {
	t.Helper()
	p := &process{t: t, mode: m, cgroup: vhosttest.NewCgroup(t)}
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Env = append(os.Environ(), ownerEnv+"=1")
	p.cmd.Dir = "/"
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(p.cgroup.Open().Fd())}
	if uid != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
		p.cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_DAC_OVERRIDE} // to open the device; this capability lifts no limit
	}
	for i, g := range guests {
		if i == 0 {
			p.cmd.ExtraFiles = []*os.File{g.file}
		}
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, g.kick, g.call, g.tap)
	}
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.ask, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.answers = bufio.NewReader(out)
	t.Cleanup(p.kill)
	p.do(request{}) // when it answers, its threads exist
	return p
}

// kill kills the owner and waits until it has exited.
func (p *process) kill() {
	if p.ended {
		return
	}
	p.ended = true
	p.cmd.Process.Kill()
	p.cmd.Wait() // reports that it was killed
}

// try sends the owner a request that may fail.
func (p *process) try(q request) reply {
	p.t.Helper()
	q.Kthread = p.mode.kthread()
	b, err := json.Marshal(q)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.ask.Write(append(b, '\n')); err != nil {
		p.t.Fatalf("owner: %v; %s", err, p.stderr.String())
	}
	line, err := p.answers.ReadBytes('\n')
	if err != nil {
		p.kill()
		p.t.Fatalf("owner: %v; %s", err, p.stderr.String())
	}
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *process) do(q request) reply {
	p.t.Helper()
	r := p.try(q)
	if r.Err != "" {
		p.t.Fatalf("owner: %s", r.Err)
	}
	return r
}

// own has the owner create a device's worker, and finds the worker.
func (p *process) own(node string) worker {
	p.t.Helper()
	r := p.do(request{Own: node})
	return findWorker(p.t, p.cmd.Process.Pid, r.TID)
}

// sending is an owner whose worker sends a guest's frames.
func sending(t testing.TB, m mode) (*process, worker, *sender) {
	t.Helper()
	s := newSender(newGuest(t, netTX, maxRing))
	p := startOwner(t, m, 0, s.guest)
	w := p.own(vhost.NetPath)
	p.do(request{Start: &start{Rings: 2, Active: []active{{Ring: netTX, Num: s.num}}}})
	return p, w, s
}
