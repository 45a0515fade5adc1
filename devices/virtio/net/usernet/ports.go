package usernet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Port is a port of the host that leads to one of the guest's.
type Port struct {
	UDP  bool
	Host netip.AddrPort // an unspecified address: all of that family, :: of both
	To   uint16         // of the guest
}

// String is the port as the configuration has it.
func (p Port) String() string {
	proto := "tcp"
	if p.UDP {
		proto = "udp"
	}
	return fmt.Sprintf("%s:%d/%s", p.Host, p.To, proto)
}

// listener is a Port that is bound.
type listener struct {
	Port
	tcp *net.TCPListener
	udp *net.UDPConn
	socket
}

// socket is what both kinds have.
type socket interface {
	SetDeadline(time.Time) error
	io.Closer
}

// listen binds the port. On a host without IPv6, every address is every address of
// IPv4.
func (p Port) listen() (listener, error) {
	l, err := p.bind()
	if errors.Is(err, unix.EAFNOSUPPORT) && p.Host.Addr() == netip.IPv6Unspecified() {
		p.Host = netip.AddrPortFrom(netip.IPv4Unspecified(), p.Host.Port())
		return p.bind()
	}
	return l, err
}

func (p Port) bind() (l listener, err error) {
	l.Port = p
	network, a := "tcp", p.Host.Addr()
	if p.UDP {
		network = "udp"
	}
	if a.Is4() {
		network += "4" // 0.0.0.0 is not :: too
	}
	if p.UDP {
		l.udp, err = net.ListenUDP(network, net.UDPAddrFromAddrPort(p.Host))
		l.socket = l.udp
	} else {
		l.tcp, err = net.ListenTCP(network, net.TCPAddrFromAddrPort(p.Host))
		l.socket = l.tcp
	}
	return l, err
}

// publish serves the ports until the session ends.
func (s *session) publish(ports []listener) {
	for _, l := range ports {
		deadline, serve := l.SetDeadline, func() { s.publishTCP(l.tcp, l.To) }
		if l.UDP {
			serve = func() { s.publishUDP(l.udp, l.To) }
		}
		deadline(time.Time{})
		s.start(func() {
			defer context.AfterFunc(s.ctx, func() { deadline(time.Unix(1, 0)) })()
			serve()
		})
	}
}

// publishTCP carries connections to a port of the guest.
func (s *session) publishTCP(host *net.TCPListener, port uint16) {
	for s.ctx.Err() == nil {
		c, err := host.AcceptTCP()
		if err != nil {
			if !s.again(host.SetDeadline, err) {
				return
			}
			continue
		}
		if !s.start(func() { s.connectIn(c, port) }) {
			c.Close()
		}
	}
}

// acceptPause is how long a listener rests when the host is out of descriptors.
const acceptPause = 100 * time.Millisecond

// again says whether a published port goes on after an error.
func (s *session) again(setDeadline func(time.Time) error, err error) bool {
	switch {
	case s.ctx.Err() != nil, errors.Is(err, net.ErrClosed):
		return false
	case errors.Is(err, os.ErrDeadlineExceeded): // the end of the session before
		return setDeadline(time.Time{}) == nil
	}
	select {
	case <-time.After(acceptPause):
		return true
	case <-s.ctx.Done():
		return false
	}
}
