package lio

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFailureAtAnyStepLeavesNothing(t *testing.T) {
	image := newImage(t, "a")
	steps := 0
	for n := 1; ; n++ {
		f, tr := newFake(t)
		f.left = n
		tg, err := tr.create(Config{LUNs: []LUN{{Path: image, ReadOnly: true}}})
		if err == nil {
			tg.Remove()
			steps = n
			break
		}
		if !errors.Is(err, errInjected) {
			t.Errorf("step %d: %v", n, err)
		}
		if left := f.objectsLeft(); len(left) > 0 {
			t.Errorf("failure at step %d leaves %q", n, left)
		}
	}
	if steps < 20 {
		t.Errorf("only %d steps", steps)
	}
}

func TestRecoverAfterACrashAtAnyStep(t *testing.T) {
	image := newImage(t, "a")
	for n := 1; ; n++ {
		f, tr := newFake(t)
		f.left = n
		tr.fs = crashing{f}
		tg, err := tr.create(Config{LUNs: []LUN{{Path: image, ReadOnly: true}}})
		done := err == nil // the crash comes later: everything is created
		tr.fs, f.left, f.crashed = f, 0, false
		if done {
			all := len(f.made)
			if removed, err := tr.recover(); err != nil || len(removed) > 0 || len(f.made) != all {
				t.Fatalf("while the owner runs: removed %q, %v; %d objects of %d left", removed, err, len(f.made), all)
			}
			die(tg)
		}
		removed, err := tr.recover()
		if err != nil {
			t.Errorf("step %d: %v", n, err)
		}
		if left := f.objectsLeft(); len(left) > 0 {
			t.Errorf("crash at step %d leaves %q", n, left)
		}
		if again, err := tr.recover(); err != nil || len(again) > 0 {
			t.Errorf("step %d: second recovery removed %q, %v", n, again, err)
		}
		if done {
			if len(removed) != 1 || removed[0] != tg.WWPN() {
				t.Errorf("removed %q", removed)
			}
			return
		}
	}
}

// die releases what the kernel releases when a target's process exits.
func die(tg *Target) { unix.Flock(int(tg.lock.Fd()), unix.LOCK_UN) }

// crashing is a fakeFS on which every operation fails after the first failure.
type crashing struct{ *fakeFS }

func (c crashing) after(err error) error {
	if errors.Is(err, errInjected) {
		c.crashed = true
	}
	return err
}

func (c crashing) mkdir(path string) error        { return c.after(c.fakeFS.mkdir(path)) }
func (c crashing) write(path, value string) error { return c.after(c.fakeFS.write(path, value)) }
func (c crashing) link(object, path string) error { return c.after(c.fakeFS.link(object, path)) }

func TestRecoverLeavesOthersAlone(t *testing.T) {
	f, tr := newFake(t)
	for _, dir := range []string{"vhost", "core/fileio_0", "core/fileio_0/disk", "core/fileio_1000000001",
		"vhost/naa.5001405bd3c1a2f0", "vhost/naa.minivmm.x.y", "vhost/naa.minivmm.1.2.3", "vhost/naa.minivmm.1.2", "core/fileio_0/minivmm.1.2.0.copy"} {
		if err := f.mkdir(tr.path(dir)); err != nil {
			t.Fatal(err)
		}
	}
	before := len(f.made)
	if removed, err := tr.recover(); err != nil || len(removed) > 0 || len(f.made) != before {
		t.Errorf("removed %q, %v; %d objects of %d left", removed, err, len(f.made), before)
	}
	empty := tree{root: filepath.Join(t.TempDir(), "none"), fs: kernelFS{}}
	if _, err := empty.recover(); err != nil {
		t.Errorf("without LIO: %v", err)
	}
}

func TestRecoverContinuesAfterABusyTarget(t *testing.T) {
	f, tr := newFake(t)
	tg, err := tr.create(Config{LUNs: []LUN{{Path: newImage(t, "a")}}})
	if err != nil {
		t.Fatal(err)
	}
	die(tg)
	f.busy = true
	all := len(f.made)
	removed, err := tr.recover()
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), tg.WWPN()) || len(removed) > 0 {
		t.Errorf("removed %q, %v; want EBUSY naming the target", removed, err)
	}
	if len(f.made) != all || !f.linkedBelow(f.root) {
		t.Errorf("recovery removed parts of a target in use by a device: %q left", f.objectsLeft())
	}
	f.busy = false
	if removed, err := tr.recover(); err != nil || len(removed) != 1 {
		t.Errorf("removed %q, %v", removed, err)
	}
}

// TestAFolderLostToARecoveryIsReplaced: another process runs a recovery between creating and
// locking a target's folder.
func TestAFolderLostToARecoveryIsReplaced(t *testing.T) {
	f, tr := newFake(t)
	first := true
	tr.fs = meddling{f, func() {
		if first {
			first = false
			if removed, err := tr.recover(); err != nil || len(removed) != 1 {
				t.Errorf("removed %q, %v", removed, err)
			}
		}
	}}
	tg, err := tr.create(Config{LUNs: []LUN{{Path: newImage(t, "a")}}})
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := tr.recover(); first || err != nil || len(removed) > 0 {
		t.Errorf("removed %q, %v", removed, err)
	}
	if err := tg.Remove(); err != nil {
		t.Error(err)
	}
	if left := f.objectsLeft(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// meddling is a fakeFS that calls a function after a target's folder is created.
type meddling struct {
	*fakeFS
	meddle func()
}

func (m meddling) mkdir(path string) error {
	err := m.fakeFS.mkdir(path)
	if strings.HasPrefix(filepath.Base(path), "naa."+prefix) && filepath.Base(filepath.Dir(path)) == "vhost" {
		m.meddle()
	}
	return err
}

const aSecret = "000102030405060708090a0b0c0d0e0f"

func FuzzIdentity(f *testing.F) {
	f.Add("naa.minivmm.12.34." + aSecret)
	f.Add("naa.minivmm.012.34." + aSecret)
	f.Fuzz(func(t *testing.T, name string) {
		if id, ok := parseWWPN(name); ok && wwpn(id) != name {
			t.Errorf("%q is %v", name, id)
		}
	})
}

func TestIdentity(t *testing.T) {
	for name, want := range map[string]bool{
		"naa.minivmm.12.34." + aSecret:                       true,
		"naa.minivmm.12.18446744073709551615." + aSecret:     true,
		"naa.minivmm.12.18446744073709551616." + aSecret:     false,
		"naa.minivmm.12.34":                                  false,
		"naa.minivmm.12.34.0":                                false, // from before locks
		"naa.minivmm.12.34." + aSecret[2:]:                   false,
		"naa.minivmm.12.34." + aSecret + "10":                false,
		"naa.minivmm.12.34.0001020304050607080910A0B0C0D0E0": false,
		"naa.minivmm.12":                                     false,
		"naa.minivmm.-1.34." + aSecret:                       false,
		"naa.minivmm.012.34." + aSecret:                      false,
		"naa.minivmm.12.34x." + aSecret:                      false,
		"minivmm.12.34." + aSecret:                           false,
		"12.34":                                              false,
		"":                                                   false,
	} {
		if _, ok := parseWWPN(name); ok != want {
			t.Errorf("%q: %v, want %v", name, ok, want)
		}
	}
}

// TestNamesCannotBeGuessed checks that the random parts of two names differ, and that the kernel's
// buffer holds a name.
func TestNamesCannotBeGuessed(t *testing.T) {
	a, b := newIdentity(), newIdentity()
	if a.number == b.number || a.secret == b.secret || a.secret == [16]byte{} {
		t.Errorf("%v and %v", a, b)
	}
	if id, ok := parseWWPN(wwpn(a)); !ok || id != a {
		t.Errorf("%v was read back as %v, %v", a, id, ok)
	}
	if n := len(wwpn(a)); n >= 224 {
		t.Errorf("%d bytes do not fit into vhost_scsi_target", n)
	}
}
