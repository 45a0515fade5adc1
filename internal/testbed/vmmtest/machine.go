package vmmtest

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"minivmm/guestimages/filetree"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
	"minivmm/internal/testbed/testenv"
	"minivmm/vmm"
	"minivmm/vmm/boot"
	"minivmm/vmm/config"
)

// Main is for TestMain. In process 1 of a guest it runs the scenario; otherwise it runs the tests.
func Main(m *testing.M, scenarios map[string]Scenario) {
	if os.Getpid() == 1 {
		runGuest(scenarios)
	}
	os.Exit(m.Run())
}

// Kernel is a guest kernel from MINIVMM_GUESTS.
type Kernel struct {
	Name    string // "6.12"
	Image   string // bzImage
	Modules string // the folder with modules.dep
}

// Kernels lists the guest kernels; the first is the default.
func Kernels(t testing.TB) []Kernel {
	t.Helper()
	testenv.Need(t, "guests")
	var all []Kernel
	for _, word := range strings.Fields(os.Getenv("MINIVMM_GUESTS")) {
		name, files, _ := strings.Cut(word, "=")
		image, dir, ok := strings.Cut(files, ":")
		if !ok {
			t.Fatalf("MINIVMM_GUESTS: %q is not NAME=IMAGE:MODULES", word)
		}
		all = append(all, Kernel{name, image, dir})
	}
	return all
}

// Vmlinux returns the path of the kernel's ELF image. A kernel.Store keeps the ELF image next to
// the bzImage. If the ELF image is missing there, Vmlinux unpacks the bzImage for this test.
func Vmlinux(t testing.TB, k Kernel) string {
	t.Helper()
	stored := filepath.Join(filepath.Dir(k.Image), "vmlinux")
	if _, err := os.Stat(stored); err == nil {
		return stored
	}
	image, err := os.Open(k.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "vmlinux"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := boot.Unpack(image, out); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// moduleOrder is the guest's file with the paths of its modules, in load order.
const moduleOrder = "/modules/order"

// guestModules are the modules that a scenario may use; Initrd omits modules that a kernel lacks or
// has built in.
var guestModules = []string{"virtio_pci", "virtio_net", "virtio_scsi", "sd_mod", "virtio_rng", "evdev", "button"}

// Initrd packs this test binary as the init of a guest that runs a scenario.
func Initrd(t testing.TB, k Kernel, scenario string, args ...string) string {
	t.Helper()
	return InitrdWith(t, k, nil, scenario, args...)
}

// InitrdWith is Initrd with additional modules for the guest to load.
func InitrdWith(t testing.TB, k Kernel, more []string, scenario string, args ...string) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if f, err := elf.NewFile(bytes.NewReader(self)); err != nil || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Fatalf("the test binary must be the guest's init, but it is dynamically linked (%v): test with CGO_ENABLED=0", err)
	}
	files := map[string][]byte{"init": self, "scenario": []byte(strings.Join(append([]string{scenario}, args...), "\n"))}
	modules, err := kernel.OpenModules(k.Modules)
	if err != nil {
		t.Fatal(err)
	}
	known := slices.DeleteFunc(slices.Concat(guestModules, more), func(name string) bool { return !modules.Has(name) })
	return SaveInitrd(t, files, func(tree *filetree.Tree) error {
		order, err := initrd.AddModules(tree, modules, known...)
		if err != nil {
			return err
		}
		return initrd.AddFile(tree, moduleOrder, 0o644, []byte(strings.Join(order, "\n")))
	})
}

// SaveInitrd saves an initial RAM file system with the given files, all executable, and a console.
// The functions in add can add more files.
func SaveInitrd(t testing.TB, files map[string][]byte, add ...func(*filetree.Tree) error) string {
	t.Helper()
	contents := t.TempDir()
	defer os.RemoveAll(contents) // an emulated host keeps files in memory
	tree, err := filetree.New(contents, filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	err = tree.AddList(t.Context(), strings.NewReader("nod /dev/console 0600 0 0 c 5 1"), "")
	for name, data := range files {
		err = errors.Join(err, initrd.AddFile(tree, name, 0o755, data))
	}
	for _, f := range add {
		err = errors.Join(err, f(tree))
	}
	path := filepath.Join(t.TempDir(), "initrd.cpio")
	if err := errors.Join(err, initrd.Save(path, tree)); err != nil {
		t.Fatal(err)
	}
	return path
}

// Machine is a VM with a guest, and its console.
type Machine struct {
	*vmm.VM
	t      testing.TB
	out    *Transcript
	cancel context.CancelFunc
	done   chan struct{}
	Result vmm.Outcome // valid after Wait
	Err    error
}

// Plan resolves a configuration and logs the notes about it.
func Plan(t testing.TB, cfg *config.Config) vmm.Plan {
	t.Helper()
	plan, notes := vmm.Resolve(cfg)
	for _, note := range notes {
		t.Log(note)
	}
	return plan
}

// Boot starts a VM. The VM is closed when the test ends, and the test fails if Close returns an
// error. The console is printed if the test fails.
func Boot(t testing.TB, cfg *config.Config) *Machine {
	t.Helper()
	testenv.Need(t, "kvm")
	m := &Machine{t: t, out: NewTranscript(), done: make(chan struct{})}
	var err error
	m.VM, err = vmm.New(Plan(t, cfg), vmm.Options{Console: m.out, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go func() {
		defer close(m.done)
		m.Result, m.Err = m.VM.Run(ctx)
		m.out.End()
	}()
	t.Cleanup(func() {
		cancel()
		<-m.done
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("console:\n%s", m.out.String())
		}
	})
	return m
}

// Expect waits until the pattern matches console text that follows the match of the previous call,
// and returns the submatches. The test fails if the guest reports a failure or exits first.
func (m *Machine) Expect(pattern string) []string {
	m.t.Helper()
	match, err := m.out.Expect(pattern)
	if err != nil {
		m.t.Fatalf("waiting for %q: %v", pattern, err)
	}
	return match
}

// Send types text on the console.
func (m *Machine) Send(text string) {
	m.t.Helper()
	uart := m.Console()
	for p := []byte(text); len(p) > 0; {
		n := uart.Feed(p)
		p = p[n:]
		if len(p) > 0 {
			select {
			case <-uart.Ready():
			case <-m.done:
				m.t.Fatal("the guest exited before it read its console")
			}
		}
	}
}

// Stop stops the guest at once.
func (m *Machine) Stop() { m.cancel() }

// Wait waits until the guest has exited, and fails the test unless the guest's outcome equals want.
func (m *Machine) Wait(want vmm.Outcome) {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(testenv.Patience):
		m.t.Fatal("the guest did not exit")
	}
	if m.Err != nil || m.Result != want {
		m.t.Fatalf("guest %v, error %v; want guest %v", m.Result, m.Err, want)
	}
}

// Succeed waits until the scenario has finished, and fails the test if the scenario failed.
func (m *Machine) Succeed() {
	m.t.Helper()
	m.Expect(OK)
	m.Wait(vmm.PoweredOff)
}

// Complaints lists the lines of the console in which the guest's kernel complains about the VM.
func (m *Machine) Complaints() []string { return m.out.Complaints() }

// Transcript returns all text that the console has shown.
func (m *Machine) Transcript() string { return m.out.String() }
