package lan

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	first = netip.MustParseAddr("10.0.2.15")
	last  = netip.MustParseAddr("10.0.2.254")
)

// inbox holds the frames that a station has received.
type inbox chan string

func (i inbox) wait(t testing.TB, want string) {
	t.Helper()
	select {
	case got := <-i:
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("no frame received, want %q", want)
	}
}

func config(t testing.TB, dir string, n byte) (Config, inbox) {
	in := make(inbox, 10000)
	return Config{
		Dir: dir, Name: fmt.Sprintf("vm%d", n), MAC: MAC{2, 0, 0, 0, 0, n}, First: first, Last: last, Logf: t.Logf,
		Receive: func(from Card, frame []byte) { in <- from.Name + ":" + string(frame) },
	}, in
}

func join(t testing.TB, dir string, n byte) (*Station, inbox) {
	t.Helper()
	cfg, in := config(t, dir, n)
	s, err := Join(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, in
}

// sees waits until s has a station, or no longer has it.
func (s *Station) sees(t testing.TB, name string, want bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		if _, ok := s.Lookup(name); ok == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("timeout: %s sees %s is not %v", s.Name, name, want)
		}
	}
}

func TestStationsReachEachOther(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("a-long-path/", 15), "net")
	var all []*Station
	var in []inbox
	seen := map[netip.Addr]bool{}
	for n := range byte(5) {
		s, i := join(t, dir, n)
		all, in = append(all, s), append(in, i)
		if seen[s.Addr] || s.Addr.Less(first) || last.Less(s.Addr) {
			t.Errorf("%s has %s", s.Name, s.Addr)
		}
		seen[s.Addr] = true
	}
	for _, s := range all {
		for _, o := range all {
			s.sees(t, o.Name, true)
			if a, _ := s.Lookup(o.Name); a != o.Addr {
				t.Errorf("%s has the wrong address for %s: %s", s.Name, o.Name, a)
			}
		}
	}
	all[1].Send(all[3].MAC, []byte("he"), []byte("llo"))
	in[3].wait(t, "vm1:hello")
	all[3].Send(all[1].MAC, []byte("back"))
	in[1].wait(t, "vm3:back")
	all[2].Send(MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte("all"))
	for _, n := range []int{0, 1, 3, 4} {
		in[n].wait(t, "vm2:all")
	}
	all[2].Send(MAC{2, 9}, []byte("nobody"))
	all[2].Send(all[2].MAC, []byte("itself"))
	big := make([]byte, MaxFrame)
	all[0].Send(all[4].MAC, big)
	in[4].wait(t, "vm0:"+string(big))
	// A station leaves, and its name is free again.
	addr := all[1].Addr
	if err := all[1].Close(); err != nil {
		t.Error(err)
	}
	all[0].sees(t, "vm1", false)
	all[0].Send(all[1].MAC, []byte("late"))
	again, _ := join(t, dir, 1)
	if again.Addr != addr {
		t.Errorf("rejoined with address %s, had %s", again.Addr, addr)
	}
	all[0].sees(t, "vm1", true)
	select {
	case got := <-in[2]:
		t.Errorf("vm2 got %q", got)
	default:
	}
}

func TestJoinErrors(t *testing.T) {
	dir := t.TempDir() + "/net"
	join(t, dir, 1)
	same, _ := config(t, dir, 1)
	_, err := Join(same)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), fmt.Sprintf("a station named vm1 already exists (process %d, ", os.Getpid())) {
		t.Errorf("name: %v", err)
	}
	mac, _ := config(t, dir, 1)
	mac.Name = "other"
	if _, err := Join(mac); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "station vm1 has the same MAC") {
		t.Errorf("MAC: %v", err)
	}
	full, _ := config(t, dir, 2)
	full.Last = full.First
	if _, err := Join(full); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "network is full (1 stations)") {
		t.Errorf("full network: %v", err)
	}
	if names, _ := filepath.Glob(dir + "/*"); len(names) != 3 {
		t.Errorf("rejected stations left files %v", names)
	}
	for _, mode := range []os.FileMode{0o755, 0o770, 0o701} {
		open := t.TempDir() + "/net"
		if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, mode)); err != nil {
			t.Fatal(err)
		}
		if cfg, _ := config(t, open, 1); !joinFails(cfg, unix.EPERM) {
			t.Errorf("joined despite mode %o of the folder", mode)
		}
	}
	link := t.TempDir() + "/link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if cfg, _ := config(t, link, 3); !joinFails(cfg, unix.ENOTDIR) {
		t.Error("followed a symbolic link")
	}
}

func joinFails(cfg Config, want error) bool {
	s, err := Join(cfg)
	if s != nil {
		s.Close()
	}
	return errors.Is(err, want)
}

const childEnv = "MINIVMM_LAN_CHILD"

// TestMain also serves as a station in a separate process, which echoes frames until it is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	var s *Station
	ready := make(chan struct{})
	s, err := Join(Config{
		Dir: dir, Name: "child", MAC: MAC{2, 0xcc}, First: first, Last: last, Logf: func(string, ...any) {},
		Receive: func(from Card, frame []byte) { <-ready; s.Send(from.MAC, []byte("echo "), frame) },
	})
	close(ready)
	fmt.Println(err)
	io.Copy(io.Discard, os.Stdin)
}

// child starts such a station and returns once it has joined.
func child(t testing.TB, dir string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+dir)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Process.Kill(); c.Wait() })
	b := make([]byte, 100)
	if n, _ := out.Read(b); string(b[:n]) != "<nil>\n" {
		t.Fatalf("%s", b[:n])
	}
	return c
}

func TestAKilledStationLeavesTheOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a, inA := join(t, dir, 1)
	b, inB := join(t, dir, 2)
	for range 3 {
		c := child(t, dir)
		a.sees(t, "child", true)
		a.Send(MAC{2, 0xcc}, []byte("1"))
		inA.wait(t, "child:echo 1")
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		a.sees(t, "child", false)
		b.sees(t, "child", false)
		a.sees(t, "vm2", true)
		a.Send(b.MAC, []byte("still here"))
		inB.wait(t, "vm1:still here")
		c.Wait()
	}
	// The next station, of any name, removes its files.
	if _, err := os.Stat(dir + "/child.station"); err != nil {
		t.Fatal(err)
	}
	join(t, dir, 3)
	for _, left := range []string{"/child.station", "/child.sock"} {
		if _, err := os.Stat(dir + left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", left, err)
		}
	}
}

func TestManyJoinAtOnce(t *testing.T) {
	dir := t.TempDir() + "/net"
	type result struct {
		s   *Station
		err error
	}
	results := make(chan result)
	for n := range byte(20) {
		cfg, _ := config(t, dir, n)
		go func() {
			s, err := Join(cfg)
			results <- result{s, err}
		}()
	}
	var all []*Station
	seen := map[netip.Addr]bool{}
	for range 20 {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		t.Cleanup(func() { r.s.Close() })
		all, seen[r.s.Addr] = append(all, r.s), true
	}
	if len(seen) != len(all) {
		t.Errorf("%d addresses for %d stations", len(seen), len(all))
	}
	for _, s := range all {
		for _, o := range all {
			s.sees(t, o.Name, true)
		}
	}
}

func FuzzCard(f *testing.F) {
	f.Add("web 020000000001 10.0.2.15")
	f.Add("web 0200000000 10.0.2.15")
	f.Add("../web 020000000001 10.0.2.15")
	f.Add("web 020000000001 10.0.2")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCard(s)
		if err != nil {
			return
		}
		again, err := parseCard(c.String())
		if err != nil || again != c || strings.ContainsAny(c.Name, "/.\x00") {
			t.Errorf("%q: %v, %v, %v", s, c, again, err)
		}
	})
}
