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

// Port is a port of the host that is forwarded to a port of the guest.
type Port struct {
	UDP  bool
	Host netip.AddrPort // unspecified address: all addresses of its family; "::": of both families
	To   uint16         // of the guest
}

// String returns the port in the syntax of the configuration.
func (p Port) String() string {
	proto := "tcp"
	if p.UDP {
		proto = "udp"
	}
	return fmt.Sprintf("%s:%d/%s", p.Host, p.To, proto)
}

// listener is a bound Port.
type listener struct {
	Port
	tcp *net.TCPListener
	udp *net.UDPConn
	socket
}

// socket is the common interface of the TCP and UDP sockets.
type socket interface {
	SetDeadline(time.Time) error
	io.Closer
}

// listen binds the port. On a host without IPv6, "::" means all IPv4 addresses.
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
		network += "4" // otherwise 0.0.0.0 would also bind "::"
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

// publishTCP forwards connections to a port of the guest.
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

// acceptPause is how long a listener pauses when the host is out of file descriptors.
const acceptPause = 100 * time.Millisecond

// again reports whether a published port continues after an error.
func (s *session) again(setDeadline func(time.Time) error, err error) bool {
	switch {
	case s.ctx.Err() != nil, errors.Is(err, net.ErrClosed):
		return false
	case errors.Is(err, os.ErrDeadlineExceeded): // left over from the end of the previous session
		return setDeadline(time.Time{}) == nil
	}
	select {
	case <-time.After(acceptPause):
		return true
	case <-s.ctx.Done():
		return false
	}
}
