package usernet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// resolverTimeout is the time limit for one resolver before the next is asked.
	resolverTimeout = 3 * time.Second

	dnsHeader   = 12 // RFC 1035 §4.1.1
	dnsServFail = 2
)

// resolve answers a DNS query over UDP with the answer of one of the host's resolvers, whatever its
// size. If all of them are unreachable the answer is SERVFAIL. If they do not answer, the guest
// gets no answer.
func (s *session) resolve(guest, server netip.AddrPort, query []byte) {
	if len(query) < dnsHeader {
		return
	}
	reply := func(answer []byte) {
		if len(answer) > 0 {
			s.sendIP(header.UDPProtocolNumber, server.Addr(), guest.Addr(), udpDatagram(server, guest, answer))
		}
	}
	if answer := s.ownAnswer(query); answer != nil {
		reply(answer)
		return
	}
	ctx, end := s.queries.begin(s.ctx, guest.Port())
	if !s.start(func() {
		defer end()
		answer := s.askResolvers(ctx, query)
		s.learnFrom(answer)
		reply(answer)
	}) {
		end()
	}
}

func (s *session) askResolvers(ctx context.Context, query []byte) []byte {
	silent := false
	first := s.resolver.Load()
	for i, r := range s.resolvers() {
		answer, err := s.askResolver(ctx, r, query)
		if err == nil {
			s.resolver.CompareAndSwap(first, first+uint32(i)) // ask this resolver first next time
			return answer
		}
		if ctx.Err() != nil {
			return nil
		}
		silent = silent || !isErrno(err, unix.ECONNREFUSED, unix.ENETUNREACH, unix.EHOSTUNREACH)
	}
	if silent {
		return nil
	}
	return servFail(query)
}

// askResolver sends a query to one resolver and returns the answer. It replaces the guest's query
// ID with a random one: a guest that knew the ID could have an outside accomplice forge the answer.
func (s *session) askResolver(ctx context.Context, to netip.AddrPort, query []byte) ([]byte, error) {
	c, err := dialUDP(to)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(resolverTimeout)); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	asked := bytes.Clone(query)
	rand.Read(asked[:2])
	if _, err := c.Write(asked); err != nil {
		return nil, err
	}
	for {
		piece, n, err := s.readUDP(c)
		if err != nil {
			return nil, err
		}
		answer := bytes.Clone(piece[:n])
		s.pieces.put(piece)
		if n >= dnsHeader && bytes.Equal(answer[:2], asked[:2]) && answersTo(asked, answer) {
			copy(answer, query[:2])
			return answer, nil
		}
	}
}

// answersTo reports whether an answer repeats the single question of the query, or contains no
// question, like the answer of a server that could not parse it. A query that does not have exactly
// one question is not compared.
func answersTo(query, answer []byte) bool {
	const counts = 4 // QDCOUNT
	if binary.BigEndian.Uint16(query[counts:]) != 1 || binary.BigEndian.Uint16(answer[counts:]) == 0 {
		return true
	}
	end := dnsHeader
	for end < len(query) && query[end] != 0 {
		if query[end]&0xc0 != 0 { // not a label
			return true
		}
		end += 1 + int(query[end])
	}
	end += 1 + 4 // the root label, QTYPE, QCLASS
	return end > len(query) || end <= len(answer) && bytes.Equal(query[dnsHeader:end], answer[dnsHeader:end])
}

// servFail returns the SERVFAIL answer to a query.
func servFail(query []byte) []byte {
	a := bytes.Clone(query)
	a[2] |= 0x80 // QR
	a[3] = a[3]&0xf0 | dnsServFail
	return a
}
