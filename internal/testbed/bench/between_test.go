package bench

import (
	"io"
	"net"
	"testing"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// BenchmarkBetween measures the minimum cost of a network in user space behind vhost-net, in which
// each byte passes through a process between the tap and the host: the guest's kernel worker, the
// tap, a read into the process, a write to the server's socket. The tap uses the kernel's TCP,
// which is cheaper than one in user space.
func BenchmarkBetween(b *testing.B) {
	kernel := vmmtest.Kernels(b)[0]
	testenv.Need(b, "kvm", "vhost-net", "vhost-scsi")
	bed := newBed(b, kernel.Image)
	initrd := vmmtest.Initrd(b, kernel, "traffic")
	exits := [2]*counter{newCounter(b, "kvm_exit"), newCounter(b, "kvm_userspace_exit")}
	m := minivmmMachine(true).start(b, bed, initrd)
	m.listener = relay(b, m.listener)
	m.ask("send", 8, 4)
	m.ask("receive", 8, 4)
	m.ask("echo", 100)
	for _, what := range []string{"send", "receive"} {
		b.Run("tcp-"+what, func(b *testing.B) {
			const mib = 32
			run(b, m, exits, func() float64 { return m.ask(what, mib) }, func(ns float64) {
				b.ReportMetric(mib<<23/(ns/1e9)/1e6, "Mb/s")
			})
		})
	}
	b.Run("tcp-echo", func(b *testing.B) {
		const count = 1000
		run(b, m, exits, func() float64 { return m.ask("echo", count) }, func(ns float64) {
			b.ReportMetric(ns/count/1e3, "us/echo")
		})
	})
}

// relay forwards connections to l to a listener on the loopback, which it returns. It closes l at
// the end.
func relay(b *testing.B, l net.Listener) net.Listener {
	b.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", inner.Addr().String())
			if err != nil {
				near.Close()
				return
			}
			go pass(near.(*net.TCPConn), far.(*net.TCPConn))
			go pass(far.(*net.TCPConn), near.(*net.TCPConn))
		}
	}()
	return inner
}

// pass copies through a buffer, not with splice(2).
func pass(from, to *net.TCPConn) {
	_, _ = io.CopyBuffer(onlyWriter{to}, struct{ io.Reader }{from}, make([]byte, chunk))
	_ = to.CloseWrite()
	_ = from.CloseRead()
}
