package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// TestARealGuestContinuesWithoutAReader lets a guest write to its console while no one reads, five
// times the pipe's capacity; the guest takes its orders over the network. When the reader comes
// back, it must get all of it. (Another test, with a simulated guest, checks that output beyond the
// ring's capacity is lost, counted, and uses no memory: each byte from a real guest is an exit, and
// slow in an emulated host.)
func TestARealGuestContinuesWithoutAReader(t *testing.T) {
	testenv.Need(t, "vhost-net", "root")
	leavesNothing(t)
	const pipe = 4096
	m := prepare(t, "", "[[net]]\naddress = '10.98.8.1/24'\n", "10.98.8.2/24", "10.98.8.1:7700")
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipe); err != nil {
		t.Fatal(err)
	}
	m.cmd.Stdin, m.cmd.Stdout = nil, w
	m.start()
	w.Close()
	order := takeOrders(t, m, "10.98.8.1:7700")

	order(fmt.Sprintf("flood %d", 5*pipe), fmt.Sprintf("flooded %d", 5*pipe))
	order("end poweroff", "")
	got, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	m.exits(0)
	flood := strings.Repeat(strings.Repeat("x", 98)+"\r\n", (5*pipe+99)/100)
	if _, after, ok := strings.Cut(string(got), flood); !ok || !strings.Contains(after, vmmtest.OK) {
		t.Errorf("the reader got %d bytes, the last %q", len(got), got[max(0, len(got)-200):])
	}
	if said := m.log.String(); said != "" {
		t.Errorf("stderr is %q", said)
	}
}

// takeOrders waits for a guest to connect to an address of the host, which comes up with the
// machine's tap, and returns a function that sends an order. An order without an answer to wait for
// is the last one.
func takeOrders(t *testing.T, m *running, addr string) (order func(line, answer string)) {
	t.Helper()
	var l net.Listener
	if !clitest.Eventually(func() (ok bool) { l, _ = net.Listen("tcp", addr); return l != nil }) {
		t.Fatalf("%s did not come up: %s", addr, m.log)
	}
	defer l.Close()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(testenv.Patience))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() { // a guest that powers off closes no connection
		<-m.ended
		conn.Close()
	}()
	r := bufio.NewReader(conn)
	r.ReadString('\n') // next?
	return func(line, answer string) {
		t.Helper()
		conn.SetDeadline(time.Now().Add(testenv.Patience))
		fmt.Fprintln(conn, line)
		if answer == "" {
			return
		}
		if got, err := r.ReadString('\n'); got != answer+"\n" {
			t.Fatalf("order %q: got %q, error %v, want %q", line, got, err, answer)
		}
	}
}
