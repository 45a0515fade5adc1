package e2e

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// The host of TestAUserWithOnlyKVM, as its guests see it.
const (
	ordinary    = 1000 // the user: no group, no capability
	outsideAddr = "10.98.11.1"
	outsideName = "host.example.com"
	content     = "what the host serves\n"
)

// TestAUserWithOnlyKVM runs machines as a user who may open /dev/kvm and nothing else: no vhost, no
// tap, no LIO, and a home folder of the user's own. The guest resolves names and has TCP to the
// outside, a published port leads to it, and its disk keeps what it wrote. The test kills the first
// machine. It stops the second, which has the same name, by that name.
func TestAUserWithOnlyKVM(t *testing.T) {
	testenv.Need(t, "kvm", "vhost-net", "vhost-scsi", "guests", "root")
	leavesNothing(t)
	address(t, newTap(t, 0), outsideAddr+"/24")
	resolver := serveName(t)
	web := serveContent(t)
	u := newUser(t, resolver)
	published := freeHostPort(t)
	u.write("machine.toml", fmt.Sprintf(`name = "rootless"
[[net]]
backend = "auto"
ports = ["127.0.0.1:%d:80"]
[[disk]]
path = "disk.img"
backend = "auto"
`, published))
	before := u.files()

	first := u.machine("run", "machine.toml", "--", "sh", "-c", fmt.Sprintf(`
mkdir /w; wget -q -O /w/f http://%s/ || exit 1
dd if=/w/f of=/dev/sda conv=fsync 2> /dev/null; echo synced
httpd -p 80 -h /w; echo serving; read end`, net.JoinHostPort(outsideName, port(web))))
	first.start()
	first.expect("synced\nserving\n")
	checkChoice(t, first, "net0: backend user: it publishes ports")
	if got, err := get(fmt.Sprintf("http://127.0.0.1:%d/f", published)); got != content || err != nil {
		t.Errorf("the published port serves %q, %v", got, err)
	}
	first.signal(syscall.SIGKILL)
	first.exits(-1)

	second := u.machine("run", "--name", "rootless", "--net", "auto", "--disk", "disk.img", "--", "sh", "-c",
		fmt.Sprintf("head -c %d /dev/sda; nslookup %s | grep -o %[3]s; ! nc -w 9 %[3]s 1 && echo refused; read end", len(content), outsideName, outsideAddr))
	second.start()
	second.expect(content + outsideAddr + "\nrefused\n")
	checkChoice(t, second, "net0: backend user: /dev/vhost-net: permission denied")
	pid := second.cmd.Process.Pid
	if out := u.ask("list"); !strings.Contains(out, "rootless") || !strings.Contains(out, fmt.Sprint(pid)) {
		t.Errorf("list prints %q", out)
	}
	if out := u.ask("workers", "rootless"); !strings.Contains(out, "vcpu 0") || !strings.Contains(out, "minivmm") || !strings.Contains(out, "RETRANSMITS\nnet0 ") {
		t.Errorf("workers prints %q", out)
	}
	if status := readFile(t, fmt.Sprintf("/proc/%d/status", pid)); !strings.Contains(status, "CapEff:\t0000000000000000\n") || !strings.Contains(status, "Groups:\t \n") || !strings.Contains(status, fmt.Sprintf("Uid:\t%d\t", ordinary)) {
		t.Errorf("the user has rights: %s", status)
	}
	u.ask("stop", "rootless")
	second.exits(128 + int(syscall.SIGTERM))
	if after := u.files(); !slices.Equal(after, before) {
		t.Errorf("the user had %q before and has %q after", before, after)
	}
}

// checkChoice checks for one line for the card and one for the disks, each with the reason.
func checkChoice(t *testing.T, m *running, card string) {
	t.Helper()
	log := m.log.String()
	for _, want := range []string{
		"minivmm: " + card + "\n",
		"minivmm: scsi0: disks are served in process, not by vhost-scsi: open /dev/vhost-scsi: permission denied",
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("stderr is %q, want %q in it once", log, want)
		}
	}
	if n := strings.Count(log, "minivmm: "); n != 2 {
		t.Errorf("stderr is %q, want two lines", log)
	}
}

// user is the user who runs machines, with a home folder.
type user struct {
	t    *testing.T
	home string
	env  []string
}

// newUser creates a home folder with a disk image and a runtime folder. The kernels are the tests'
// own, and the host's resolver is at the given address.
func newUser(t *testing.T, resolver string) *user {
	t.Helper()
	store := storeDir(t)
	u := &user{t: t, home: t.TempDir()}
	dirs := []string{".", ".cache", ".cache/minivmm", "run"}
	var binds []string
	for _, name := range []string{"kernels", "packages", "answers"} {
		dirs = append(dirs, ".cache/minivmm/"+name)
		binds = append(binds, filepath.Join(store, name)+"="+filepath.Join(u.home, ".cache/minivmm", name))
	}
	for _, dir := range dirs {
		dir = filepath.Join(u.home, dir)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chown(dir, ordinary, ordinary)); err != nil {
			t.Fatal(err)
		}
	}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := errors.Join(os.Chmod(filepath.Dir(u.home), 0o755), os.Chmod(filepath.Dir(resolv), 0o755),
		os.WriteFile(resolv, []byte("nameserver "+resolver+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	u.write("disk.img", strings.Repeat("\x00", 1<<20))
	u.env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + u.home, "XDG_RUNTIME_DIR=" + filepath.Join(u.home, "run"),
		fmt.Sprintf("%s=%d", uidVar, ordinary), devVar + "=null=666 kvm=666 net/tun=600 vhost-net=600 vhost-scsi=600",
		bindVar + "=" + strings.Join(append(binds, resolv+"=/etc/resolv.conf"), " "),
	}
	return u
}

func (u *user) write(name, text string) {
	u.t.Helper()
	path := filepath.Join(u.home, name)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, ordinary, ordinary)); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) program(args ...string) *exec.Cmd {
	cmd := realProgram(u.t, args...)
	cmd.Dir, cmd.Env = u.home, nil
	inPlaceOf(u.t, cmd, u.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	return cmd
}

// machine is the user's program with a guest, not started yet.
func (u *user) machine(args ...string) *running {
	u.t.Helper()
	m := &running{t: u.t, cmd: u.program(args...), guest: vmmtest.NewTranscript(), log: vmmtest.NewTranscript(), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		u.t.Fatal(err)
	}
	m.cmd.Stdin, m.stdin, m.cmd.Stdout, m.cmd.Stderr = r, w, m.guest, m.log
	m.closed = append(m.closed, r, w)
	return m
}

// ask runs the user's program and returns its output.
func (u *user) ask(args ...string) string {
	u.t.Helper()
	cmd := u.program(args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Errorf("minivmm %q: %v: %s", args, err, out)
	}
	return string(out)
}

// files lists the user's files, including sockets. It leaves out the cache, which stays, and the
// empty folder for sockets, which stays too.
func (u *user) files() (all []string) {
	u.t.Helper()
	err := filepath.WalkDir(u.home, func(path string, d fs.DirEntry, err error) error {
		if path == filepath.Join(u.home, ".cache") {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		u.t.Error(err)
	}
	making, _ := filepath.Glob(filepath.Join(u.home, ".cache/minivmm/making/*"))
	elsewhere, _ := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("minivmm-%d", ordinary)))
	return slices.Concat(all, making, elsewhere)
}

// serveName answers every query for an IPv4 address with outsideAddr, on port 53 of that address,
// and returns the server's address.
func serveName(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(outsideAddr, "53"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response = true
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA && q.Name.String() == outsideName+"." {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
					Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(outsideAddr).To4())},
				}}
			}
			if out, err := m.Pack(); err == nil {
				conn.WriteTo(out, from)
			}
		}
	}()
	return outsideAddr
}

// serveContent starts a web server at outsideAddr.
func serveContent(t *testing.T) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(outsideAddr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, content) })}
	t.Cleanup(func() { s.Close() })
	go s.Serve(l)
	return l.Addr()
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}

// freeHostPort returns a port of the loopback that was free just now.
func freeHostPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func get(url string) (string, error) {
	c := http.Client{Timeout: testenv.Patience}
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
