package usernet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const dnsPort = 53

// fallbackResolver is the default of resolv.conf(5) for a file without name servers.
var fallbackResolver = netip.MustParseAddr("127.0.0.1")

// resolvConf is the part of the file that a guest needs.
type resolvConf struct {
	servers []netip.Addr // at least one
	search  []string
}

// maxSearch limits the total length of a search list, which must fit into one packet.
const maxSearch = 1000

// maxResolvConf limits how many bytes of the file are read.
const maxResolvConf = 64 << 10

// readResolvConf reads a resolv.conf(5). It ignores lines that it does not understand.
func readResolvConf(name string) resolvConf {
	text, _ := os.ReadFile(name)
	return parseResolvConf(string(text[:min(len(text), maxResolvConf)]))
}

func parseResolvConf(text string) (c resolvConf) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil && len(c.servers) < 3 { // MAXNS of resolv.h
				c.servers = append(c.servers, a)
			}
		case "domain", "search": // the last line wins
			c.search = nil
			size := 0
			for _, d := range fields[1:] {
				d = strings.TrimSuffix(d, ".")
				if len(d) <= 253 && isDomain(d) && len(c.search) < 6 && size+len(d) <= maxSearch {
					c.search = append(c.search, d)
					size += len(d)
				}
			}
		}
	}
	if len(c.servers) == 0 {
		c.servers = []netip.Addr{fallbackResolver}
	}
	return c
}

// isDomain reports whether a name of at most 253 bytes fits into a DHCP option.
var isDomain = regexp.MustCompile(`^[-_0-9A-Za-z]{1,63}(\.[-_0-9A-Za-z]{1,63})*$`).MatchString

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
		var answer []byte
		if err := s.pieces.read(c, func(datagram []byte) { answer = bytes.Clone(datagram) }); err != nil {
			return nil, err
		}
		if len(answer) >= dnsHeader && bytes.Equal(answer[:2], asked[:2]) && answersTo(asked, answer) {
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
