package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// The addresses at both ends of the link between the machine's network namespace and the test's,
// which is the machine's outside world.
const (
	world4, world6     = "10.77.0.1", "2001:db8:77::1"
	machine4, machine6 = "10.77.0.2", "2001:db8:77::2"
	nobody4            = "10.77.0.99"
	worldName          = "files.example.test"
	longName           = "long.example.test" // has more answers than fit in a DNS datagram
)

// world is the outside of a machine whose connections start in a network namespace of its own,
// which a link connects to the test's.
type world struct {
	netns      string // name of the machine's namespace
	resolvConf string // the file that the machine uses as the host's resolv.conf
}

// newWorld creates the namespace, the link and the world's name server.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{netns: fmt.Sprintf("mvmworld%d", os.Getpid()), resolvConf: filepath.Join(t.TempDir(), "resolv.conf")}
	clitest.NetNS(t, w.netns)
	output(t, "ip", "link", "add", "mvmworld", "type", "veth", "peer", "name", "eth0", "netns", w.netns)
	t.Cleanup(func() { output(t, "ip", "link", "del", "mvmworld") })
	output(t, "ip", "addr", "add", world4+"/24", "dev", "mvmworld")
	output(t, "ip", "addr", "add", world6+"/64", "dev", "mvmworld", "nodad")
	output(t, "ip", "link", "set", "mvmworld", "up")
	for _, line := range []string{
		"link set lo up", "addr add " + machine4 + "/24 dev eth0", "addr add " + machine6 + "/64 dev eth0 nodad", "link set eth0 up",
		"route add default via " + world4, "route add default via " + world6,
	} {
		inNetNS(t, w.netns, append([]string{"ip"}, strings.Fields(line)...)...)
	}
	inNetNS(t, w.netns, "sh", "-c", "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
	serveNames(t)
	if err := os.WriteFile(w.resolvConf, []byte("search example.test\nnameserver "+world4+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return w
}

// moveIn makes the program run in the machine's namespace, with that namespace's resolvers.
func (w *world) moveIn(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = append([]string{"nsenter", "--net=/run/netns/" + w.netns, "unshare", "--mount", "sh", "-c",
		`mount --bind "$0" /etc/resolv.conf && exec "$@"`, w.resolvConf, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = nsenter
}

// listen is net.Listen for an address that may be so new that the kernel does not accept it yet.
func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	ok := clitest.Eventually(func() bool {
		l, err = net.Listen("tcp", address)
		return !errors.Is(err, syscall.EADDRNOTAVAIL)
	})
	if !ok || err != nil {
		t.Fatal(err)
	}
	return l
}

// serveFile serves a file at an address of the world, and accepts uploads, which it answers with
// their checksum. It returns the URL and the file's checksum.
func serveFile(t *testing.T, address string, sizeBytes int) (url, sum string) {
	t.Helper()
	data := make([]byte, sizeBytes)
	rng := rand.NewChaCha8([32]byte{})
	rng.Read(data)
	l := listen(t, net.JoinHostPort(address, "0"))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut {
			w.Write(data)
			return
		}
		h := sha256.New()
		io.Copy(h, r.Body)
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String(), fmt.Sprintf("%x", sha256.Sum256(data))
}

// serveNames answers queries for the world's names, by UDP and TCP.
func serveNames(t *testing.T) {
	t.Helper()
	l := listen(t, world4+":53")
	u, err := net.ListenPacket("udp", world4+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			if answer := answerName(b[:n], 1200); answer != nil {
				u.WriteTo(answer, from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var size [2]byte
				for {
					if _, err := io.ReadFull(c, size[:]); err != nil {
						return
					}
					b := make([]byte, binary.BigEndian.Uint16(size[:]))
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					answer := answerName(b, 1<<16-1)
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
				}
			}()
		}
	}()
}

// answerName answers a query in at most maxBytes bytes, and marks the answer as truncated if it
// does not fit (RFC 1035, section 4.1.1). It returns nil if the input is not a query.
func answerName(question []byte, maxBytes int) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m = dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true}, Questions: m.Questions}
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, Type: q.Type, TTL: 60}
	name := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
	switch {
	case name != worldName && name != longName:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: netip.MustParseAddr(world4).As4()}}}
	case q.Type == dnsmessage.TypeAAAA:
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(world6).As16()}}}
	case q.Type == dnsmessage.TypeTXT && name == longName:
		for i := range 20 {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.TXTResource{TXT: []string{strings.Repeat(string('a'+rune(i)), 200)}}})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	if len(answer) > maxBytes {
		m.Truncated, m.Answers = true, nil
		answer, _ = m.Pack()
	}
	return answer
}

// serveIperf3 runs an iperf3 server at an address.
func serveIperf3(t *testing.T, address string) {
	t.Helper()
	testenv.Need(t, "iperf3")
	out := vmmtest.NewTranscript()
	cmd := exec.CommandContext(context.Background(), "iperf3", "--server", "--forceflush", "--bind", address)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		out.End()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		if t.Failed() {
			t.Logf("iperf3: %s", out)
		}
	})
	if _, err := out.Expect("Server listening"); err != nil {
		t.Fatalf("iperf3: %v: %s", err, out)
	}
}
