package proof

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/vhost"
)

// stops reports what happens to traffic between stop and resume. Frames are offered before, during
// and after.
func stops(t *testing.T, m mode, stop, resume func(p *process)) string {
	t.Helper()
	const frames = 500
	p, _, s := sending(t, m)
	s.send(frames)
	if !s.served(testenv.Patience) || !s.allArrived() {
		t.Fatal("no traffic to stop")
	}
	s.send(maxRing / 2) // in flight during the stop
	stop(p)
	begun := s.used()
	s.send(frames)
	stood := !s.served(stillness)
	moved := s.used() != begun
	if stood && moved { // a busy machine needs longer for the rest
		stood = !s.served(testenv.Patience)
	}
	resume(p)
	s.send(frames)
	if !s.served(testenv.Patience) {
		t.Fatal("traffic did not resume")
	}
	if !s.allArrived() {
		t.Errorf("%d frames arrived, want %d", s.tap.FromGuest(t)-s.before, s.sent)
	}
	switch {
	case stood && !moved:
		return ""
	case !stood:
		return "traffic goes on"
	default:
		return "some traffic goes on"
	}
}

func isFrozen(t *testing.T, m mode) string {
	counts := true
	freeze := func(p *process, frozen int64) bool {
		p.cgroup.Write("cgroup.freeze", "%d", frozen)
		return p.cgroup.Await("cgroup.events", "frozen", frozen, time.Second)
	}
	instead := stops(t, m,
		func(p *process) { counts = freeze(p, 1) },
		func(p *process) { freeze(p, 0) })
	if !counts {
		instead += ", and the cgroup never counts as frozen"
	}
	return instead
}

func isStopped(t *testing.T, m mode) string {
	signal := func(p *process, sig unix.Signal, options int) {
		pid := p.cmd.Process.Pid
		if err := unix.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, options, nil); err != nil || status.Exited() || status.Signaled() {
			t.Fatalf("wait: %#x, %v", status, err)
		}
	}
	return stops(t, m,
		func(p *process) { signal(p, unix.SIGSTOP, unix.WUNTRACED) },
		func(p *process) { signal(p, unix.SIGCONT, unix.WCONTINUED) })
}

// diesWithProcess has this process share the vhost descriptor, so that the device outlives its
// owner.
func diesWithProcess(t *testing.T, m mode) string {
	p, w, s := sending(t, m)
	pidfd, err := unix.PidfdOpen(w.pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	shared := -1
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", w.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, _ := os.Readlink(link); to == vhost.NetPath {
			var fd int
			fmt.Sscan(filepath.Base(link), &fd)
			if shared, err = unix.PidfdGetfd(pidfd, fd, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if shared < 0 {
		t.Fatalf("%v: none is %s", links, vhost.NetPath)
	}
	defer unix.Close(shared)
	s.send(1)
	if !s.served(testenv.Patience) {
		t.Fatal("no traffic to end")
	}
	p.kill()
	s.send(1)
	if s.served(stillness) {
		return "it serves on while anyone has the descriptor"
	}
	return ""
}

func leavesNothing(t *testing.T, m mode) string {
	d := newDisk(t, m, diskOptions{})
	p, w := d.serve(t, m)
	p.kill()
	for _, dir := range tasksIn("/proc") {
		if comm(dir) == fmt.Sprintf("vhost-%d", w.caller) {
			return "a worker"
		}
	}
	d.reset()
	p = startOwner(t, m, 0, d.guest)
	p.own(vhost.ScsiPath)
	if r := p.try(request{Start: d.start()}); r.Err != "" {
		t.Log(r.Err)
		return "the endpoint"
	}
	d.write(d.batch)
	return ""
}
