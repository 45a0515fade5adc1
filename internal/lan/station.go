package lan

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/task"
)

// Config is how a station joins a network.
type Config struct {
	Dir  string // the network's folder; it is made if it is not there
	Name string // the station's
	MAC  MAC
	// First to Last are the addresses that the network has for stations.
	First, Last netip.Addr
	// Receive gets each frame from another station, which is the caller's until
	// it returns. Each station's come from a goroutine of its own. It must not
	// wait.
	Receive func(from Card, frame []byte)
	// Logf takes one line, without newline.
	Logf func(format string, args ...any)
}

// Station is a machine on a network.
type Station struct {
	Card
	cfg    Config
	dir    *folder
	file   *os.File // NAME.station, locked
	listen *net.UnixListener

	waiting atomic.Int64 // bytes, for all stations

	mu     sync.Mutex
	byMAC  map[MAC]*peer
	byName map[string]*peer
	new    map[*net.UnixConn]struct{} // have not said who they are
	closed bool
	tasks  *task.Group
}

// Limits.
const (
	maxStations = 64
	helloWait   = 5 * time.Second
)

// Join makes a station; the caller closes it. A name or a MAC that a live station
// has, and a full network, are EBUSY.
func Join(cfg Config) (_ *Station, err error) {
	if !isName(cfg.Name) {
		return nil, fmt.Errorf("%q is no name for a station", cfg.Name)
	}
	s := &Station{cfg: cfg, byMAC: map[MAC]*peer{}, byName: map[string]*peer{}, new: map[*net.UnixConn]struct{}{}}
	s.tasks = task.New(func(err error) { cfg.Logf("%v", err) })
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.dir, err = openFolder(cfg.Dir); err != nil {
		return nil, err
	}
	lock, err := s.dir.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	others, err := s.alive()
	if err != nil {
		return nil, err
	}
	if s.Card, err = s.pick(others); err != nil {
		return nil, err
	}
	if err := s.announce(); err != nil {
		return nil, err
	}
	for _, c := range others {
		s.connect(c)
	}
	s.tasks.Go(s.accept)
	return s, nil
}

// alive are the stations whose process lives. What others left is removed. The
// folder is locked.
func (s *Station) alive() (all []Card, err error) {
	names, err := s.dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		name, ok := strings.CutSuffix(file, ".station")
		if !ok {
			continue
		}
		f, err := s.dir.open(file, unix.O_RDWR)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just closed
		}
		if err != nil {
			return nil, err
		}
		dead, err := tryLock(f)
		switch {
		case err != nil:
		case dead:
			s.dir.remove(file, name+".sock")
		case name == s.cfg.Name:
			err = fmt.Errorf("a station called %s is on it already%s, and names must differ: %w", name, holder(f), unix.EBUSY)
		default:
			var c Card
			if c, err = readCard(f); err == nil {
				all = append(all, c)
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func readCard(f *os.File) (Card, error) {
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return Card{}, err
	}
	c, err := parseCard(string(text))
	if err != nil {
		return c, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return c, nil
}

// pick takes an address that nobody has: the same on every start, if it is free.
func (s *Station) pick(others []Card) (Card, error) {
	taken := map[netip.Addr]bool{}
	for _, c := range others {
		taken[c.Addr] = true
		if c.MAC == s.cfg.MAC {
			return Card{}, fmt.Errorf("station %s has the same MAC address: %w", c.Name, unix.EBUSY)
		}
	}
	var pool []netip.Addr
	for a := s.cfg.First; a.Compare(s.cfg.Last) <= 0; a = a.Next() {
		pool = append(pool, a)
	}
	if len(others) >= min(maxStations, len(pool)) {
		return Card{}, fmt.Errorf("all %d places are taken: %w", len(others), unix.EBUSY)
	}
	h := fnv.New32a()
	io.WriteString(h, s.cfg.Name)
	at := int(h.Sum32() % uint32(len(pool)))
	for taken[pool[at]] {
		at = (at + 1) % len(pool)
	}
	return Card{Name: s.cfg.Name, MAC: s.cfg.MAC, Addr: pool[at]}, nil
}

// announce writes and locks the station's file and listens. The folder is locked.
func (s *Station) announce() (err error) {
	name := s.Name + ".station"
	if s.file, err = s.dir.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL); err != nil {
		return err
	}
	if ok, err := tryLock(s.file); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%s: %w", name, unix.EBUSY))
	}
	if _, err := fmt.Fprintln(s.file, s.Card); err != nil {
		return err
	}
	s.dir.remove(s.Name + ".sock")
	s.listen, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.dir.socket(s.Name + ".sock"), Net: "unixpacket"})
	if err != nil {
		return err
	}
	s.listen.SetUnlinkOnClose(false) // Close does, by its name in the folder
	return nil
}

// connect connects to a station that was there before. One that has gone is none.
func (s *Station) connect(c Card) {
	ctx, cancel := context.WithTimeout(context.Background(), helloWait)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixpacket", s.dir.socket(c.Name+".sock"))
	if err != nil {
		s.cfg.Logf("station %s does not answer: %v", c.Name, err)
		return
	}
	conn.SetWriteDeadline(time.Now().Add(helloWait))
	if _, err := io.WriteString(conn, s.Card.String()); err != nil {
		s.cfg.Logf("station %s does not answer: %v", c.Name, err)
		conn.Close()
		return
	}
	conn.SetWriteDeadline(time.Time{})
	s.add(c, conn.(*net.UnixConn))
}

// accept takes the connections of those who join later.
func (s *Station) accept(context.Context) error {
	for {
		conn, err := s.listen.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			s.cfg.Logf("accepting a station: %v", err)
			time.Sleep(10 * time.Millisecond) // out of descriptors
			continue
		}
		s.mu.Lock()
		closed := s.closed
		s.new[conn] = struct{}{}
		s.mu.Unlock()
		if closed {
			conn.Close()
			return nil
		}
		s.tasks.Go(func(context.Context) error {
			s.welcome(conn)
			return nil
		})
	}
}

// welcome hears who it is that connected.
func (s *Station) welcome(conn *net.UnixConn) {
	hello := make([]byte, 256)
	conn.SetReadDeadline(time.Now().Add(helloWait))
	n, err := conn.Read(hello)
	s.mu.Lock()
	delete(s.new, conn)
	s.mu.Unlock()
	var c Card
	if err == nil {
		c, err = parseCard(string(hello[:n]))
	}
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			s.cfg.Logf("a station did not say who it is: %v", err)
		}
		conn.Close()
		return
	}
	conn.SetReadDeadline(time.Time{})
	s.add(c, conn)
}

// Lookup is the address of the station of that name, this one's too.
func (s *Station) Lookup(name string) (a netip.Addr, ok bool) {
	if name == s.Name {
		return s.Addr, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.byName[name]; p != nil {
		return p.Addr, true
	}
	return a, false
}

// Has says whether there is another station with that MAC.
func (s *Station) Has(to MAC) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byMAC[to] != nil
}

// Send sends a frame, in pieces, to the station with that MAC or, if it is a
// group's, to all. It does not wait: where too much waits already, the frame is
// dropped.
func (s *Station) Send(to MAC, pieces ...[]byte) {
	s.mu.Lock()
	var few [8]*peer
	peers := few[:0]
	if to.group() {
		for _, p := range s.byMAC {
			peers = append(peers, p)
		}
	} else if p := s.byMAC[to]; p != nil {
		peers = append(peers, p)
	}
	s.mu.Unlock()
	for _, p := range peers {
		p.send(pieces)
	}
}

// Close leaves the network.
func (s *Station) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, p := range s.byMAC {
		p.close()
	}
	for conn := range s.new {
		conn.Close()
	}
	s.mu.Unlock()
	var errs []error
	if s.listen != nil {
		errs = append(errs, s.listen.Close())
	}
	errs = append(errs, s.tasks.Stop())
	if s.file != nil {
		s.dir.remove(s.Name+".sock", s.Name+".station")
		errs = append(errs, s.file.Close())
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}
