package lio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vhosttest"
	"minivmm/vhost"
)

// needLIO is like need, for vhost-scsi with LIO and permission to use them.
func needLIO(t *testing.T) {
	t.Helper()
	s, err := vhost.OpenScsi()
	if err == nil {
		s.Close()
		_, err = os.Stat(filepath.Dir(DefaultRoot))
	}
	if err == nil && os.Getuid() != 0 {
		err = errors.New("not root")
	}
	testenv.NeedNil(t, "vhost-scsi", err)
}

func create(t *testing.T, c Config) *Target {
	t.Helper()
	tg, err := Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tg.Remove(); err != nil {
			t.Error(err)
		}
	})
	return tg
}

func TestDisksOfATargetServeRequests(t *testing.T) {
	needLIO(t)
	for _, cache := range []Cache{Writeback, Writethrough} {
		t.Run(string(cache), func(t *testing.T) {
			rw, ro := newImage(t, "a,b \n"+strings.Repeat("x", 200)), newImage(t, "ro.img")
			tg := create(t, Config{Name: "test", LUNs: []LUN{
				{Path: rw, Serial: "A1B2C3", Cache: cache},
				{Path: ro, ReadOnly: true, Cache: cache},
			}})
			g := newGuest(t, tg.WWPN())

			page := make([]byte, 64)
			if status, _ := g.do(0, []byte{0x12, 1, 0x80, 0, byte(len(page)), 0}, false, page); status != 0 {
				t.Errorf("INQUIRY: status %#x", status)
			}
			if got := string(g.mem[offData+4:][:6]); got != "A1B2C3" {
				t.Errorf("serial %q", got)
			}
			if status, _ := g.do(0, []byte{0x12, 0, 0, 0, byte(len(page)), 0}, false, page); status != 0 {
				t.Errorf("INQUIRY: status %#x", status)
			}
			if got := string(g.mem[offData+16:][:16]); got != "minivmm disk    " {
				t.Errorf("product %q", got)
			}

			block := bytes.Repeat([]byte("data"), 128)
			if status, key := g.do(0, write10, true, block); status != 0 {
				t.Errorf("WRITE: status %#x, sense key %d", status, key)
			}
			if got, err := os.ReadFile(rw); err != nil || !bytes.Equal(got[:512], block) {
				t.Errorf("the file has %q, %v", got[:8], err)
			}
			if status, _ := g.do(0, read10, false, make([]byte, 512)); status != 0 || !bytes.Equal(g.mem[offData:][:512], block) {
				t.Errorf("READ: status %#x, data %q", status, g.mem[offData:][:8])
			}
			const dataProtect = 7
			if status, key := g.do(1, write10, true, block); status != 2 || key != dataProtect {
				t.Errorf("WRITE to the read-only disk: status %#x, sense key %d; want 0x2, %d", status, key, dataProtect)
			}
			if status, _ := g.do(1, read10, false, make([]byte, 512)); status != 0 {
				t.Errorf("READ of the read-only disk: status %#x", status)
			}

			// Start must find a request from before it
			if err := g.dev.Stop(tg.WWPN(), []vhost.Vring{g.ring}); err != nil {
				t.Fatal(err)
			}
			g.ring.Base = g.next
			g.request(0, read10, false, make([]byte, 512))
			g.kick()
			page0 := reflect.ValueOf(g.mem).Pointer()
			err := g.dev.Start(vhost.Setup{
				Features: 1 << 32,
				Memory:   []vhost.MemoryRegion{{GPA: guestGPA, SizeBytes: guestSize, HVA: page0}},
				Vrings:   []vhost.Vring{g.ring},
			}, tg.WWPN())
			if err != nil {
				t.Fatal(err)
			}
			if status, key := g.wait(); status != 0 && key != 6 {
				t.Errorf("READ from before the start: status %#x, key %d", status, key)
			}
		})
	}
}

func TestAttributesAreSet(t *testing.T) {
	needLIO(t)
	tg := create(t, Config{LUNs: []LUN{{Path: newImage(t, "a"), Cache: Writethrough, BlockSize: 4096}}})
	dirs, err := filepath.Glob(filepath.Join(DefaultRoot, "core", tg.id.hba(pluginFile), tg.id.String()+".0.*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v, %v", dirs, err)
	}
	for name, want := range map[string]string{
		"emulate_3pc": "0", "emulate_pr": "0", "emulate_caw": "0", "is_nonrot": "1", "block_size": "4096",
		"emulate_tpu": "1", "emulate_write_cache": "0", "submit_type": "1",
	} {
		b, err := os.ReadFile(filepath.Join(dirs[0], "attrib", name))
		if name == "submit_type" && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if got := strings.TrimSpace(string(b)); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestBlockDeviceIsADisk(t *testing.T) {
	needLIO(t)
	path, err := vhosttest.OpenLoop(t, newImage(t, "a"))
	testenv.NeedNil(t, "loop", err)
	for _, readOnly := range []bool{false, true} {
		tg, err := Create(Config{LUNs: []LUN{{Path: path, ReadOnly: readOnly}}})
		if err != nil {
			t.Fatalf("read-only %v: %v", readOnly, err)
		}
		// The device supports discard: it is backed by a sparse file.
		b, err := os.ReadFile(filepath.Join(tg.images[0].dir, "attrib/emulate_tpu"))
		if want := map[bool]string{false: "1\n", true: "0\n"}[readOnly]; string(b) != want {
			t.Errorf("read-only %v: emulate_tpu is %q, %v, want %q", readOnly, b, err, want)
		}
		if err := tg.Remove(); err != nil {
			t.Error(err)
		}
	}
}

func TestEndpointHoldsTheTarget(t *testing.T) {
	needLIO(t)
	tg := create(t, Config{LUNs: []LUN{{Path: newImage(t, "a")}}})
	g := newGuest(t, tg.WWPN())
	die(tg)
	removed, err := Recover()
	if !errors.Is(err, unix.EBUSY) || slices.Contains(removed, tg.WWPN()) {
		t.Errorf("recovery while a device has the endpoint: %v, %v; want EBUSY", removed, err)
	}
	if status, key := g.do(0, read10, false, make([]byte, 512)); status != 0 {
		t.Errorf("READ after the failed recovery: status %#x, sense key %d", status, key)
	}
	g.dev.Close()
	if removed, err := Recover(); err != nil || !slices.Equal(removed, []string{tg.WWPN()}) {
		t.Errorf("removed %q, %v; want %s", removed, err, tg.WWPN())
	}
}

func TestRecoverOnTheKernel(t *testing.T) {
	needLIO(t)
	live := create(t, Config{LUNs: []LUN{{Path: newImage(t, "live")}}})
	left := create(t, Config{LUNs: []LUN{{Path: newImage(t, "left"), ReadOnly: true}, {Path: newImage(t, "b")}}})
	if removed, err := Recover(); err != nil || len(removed) > 0 {
		t.Errorf("with running owners: removed %q, %v", removed, err)
	}
	die(left)
	removed, err := Recover()
	if err != nil || !slices.Equal(removed, []string{left.WWPN()}) {
		t.Errorf("removed %q, %v; want %s", removed, err, left.WWPN())
	}
	for name, want := range map[string]bool{
		filepath.Join("vhost", left.WWPN()):            false,
		filepath.Join("vhost", live.WWPN()):            true,
		filepath.Join("core", left.id.hba(pluginFile)): false,
	} {
		if _, err := os.Stat(filepath.Join(DefaultRoot, name)); (err == nil) != want {
			t.Errorf("%s: %v, want existence %v", name, err, want)
		}
	}
}

// TestRecoverSparesOtherPIDNamespaces has a target inside a pid namespace and a recovery outside
// it, like a machine in a container and a start on the host, and the reverse.
func TestRecoverSparesOtherPIDNamespaces(t *testing.T) {
	needLIO(t)
	const role = "MINIVMM_TEST_NAMESPACE"
	switch os.Getenv(role) {
	case "recover":
		if removed, err := Recover(); err != nil || len(removed) > 0 {
			t.Errorf("removed %q, %v", removed, err)
		}
		return
	case "own":
		tg, err := Create(Config{LUNs: []LUN{{Path: newImage(t, "inside")}}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("made %s\n", tg.WWPN())
		os.Stdin.Read(make([]byte, 1))
		runtime.KeepAlive(tg)
		os.Exit(0) // as if killed
	}
	inside := func(what string) *exec.Cmd {
		cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), role+"="+what)
		cmd.Stderr = os.Stderr
		return cmd
	}
	outside := create(t, Config{LUNs: []LUN{{Path: newImage(t, "outside")}}})
	if out, err := inside("recover").Output(); err != nil {
		t.Errorf("recovery in another namespace: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(DefaultRoot, "vhost", outside.WWPN(), "tpgt_0/lun/lun_0")); err != nil {
		t.Errorf("after a recovery in another namespace: %v", err)
	}

	owner := inside("own")
	in, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var wwpn string
	for sc := bufio.NewScanner(out); wwpn == "" && sc.Scan(); {
		wwpn, _ = strings.CutPrefix(sc.Text(), "made ")
		if wwpn == sc.Text() {
			wwpn = ""
		}
	}
	if removed, err := Recover(); err != nil || len(removed) > 0 {
		t.Errorf("while the owner in another namespace runs: removed %q, %v", removed, err)
	}
	in.Close()
	owner.Wait()
	if removed, err := Recover(); err != nil || !slices.Equal(removed, []string{wwpn}) {
		t.Errorf("after it exited: removed %q, %v; want %s", removed, err, wwpn)
	}
}
