package lan

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/task"
)

// Config holds the parameters of Join.
type Config struct {
	Dir  string // the network's folder; created if missing
	Name string // the station's name
	MAC  MAC
	// Stations have addresses from First to Last.
	First, Last netip.Addr
	// Receive is called with each frame from another station; the frame is valid until Receive
	// returns. The frames of each station are passed by a goroutine of their own. Receive must not
	// block.
	Receive func(from Card, frame []byte)
	// Logf logs one line, without newline.
	Logf func(format string, args ...any)
}

// Station is a VM on a network.
type Station struct {
	Card
	cfg    Config
	dir    *folder
	file   *os.File // NAME.station, locked
	listen *net.UnixListener

	waiting atomic.Int64 // bytes queued for all other stations

	mu     sync.Mutex
	byMAC  map[MAC]*peer
	byName map[string]*peer
	tasks  *task.Group // canceling its context closes the connections
}

const (
	maxStations = 64
	helloWait   = 5 * time.Second
)

// Join creates a station. The error is EBUSY if a live station has the same name or MAC, or if the
// network is full. The caller must call Close.
func Join(cfg Config) (_ *Station, err error) {
	if !isName(cfg.Name) {
		return nil, fmt.Errorf("%q is not a valid station name", cfg.Name)
	}
	s := &Station{cfg: cfg, byMAC: map[MAC]*peer{}, byName: map[string]*peer{}}
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

// alive returns the live stations and removes the files of dead ones. The error is EBUSY if a live
// station has this station's name. The folder must be locked.
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
			continue // the station has just left the network
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
			err = fmt.Errorf("a station named %s already exists%s, and names must be unique: %w", name, holder(f), unix.EBUSY)
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

// pick picks a free address. It prefers the address derived from the station's name, which is the
// same on every start.
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
		return Card{}, fmt.Errorf("the network is full (%d stations): %w", len(others), unix.EBUSY)
	}
	h := fnv.New32a()
	io.WriteString(h, s.cfg.Name)
	at := int(h.Sum32() % uint32(len(pool)))
	for taken[pool[at]] {
		at = (at + 1) % len(pool)
	}
	return Card{Name: s.cfg.Name, MAC: s.cfg.MAC, Addr: pool[at]}, nil
}

// announce creates and locks the station's file and starts to listen. The folder must be locked.
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
	s.listen.SetUnlinkOnClose(false) // Station.Close removes the socket by its name in the folder
	return nil
}

// connect connects to an existing station. If the station does not answer, connect only logs the
// failure.
func (s *Station) connect(c Card) {
	ctx, cancel := context.WithTimeout(context.Background(), helloWait)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixpacket", s.dir.socket(c.Name+".sock"))
	if err == nil {
		conn.SetWriteDeadline(time.Now().Add(helloWait))
		if _, err = io.WriteString(conn, s.Card.String()); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		s.cfg.Logf("station %s does not answer: %v", c.Name, err)
		return
	}
	conn.SetWriteDeadline(time.Time{})
	s.add(c, conn.(*net.UnixConn))
}

// accept accepts connections from stations that join later.
func (s *Station) accept(context.Context) error {
	for {
		conn, err := s.listen.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			s.cfg.Logf("accept a station: %v", err)
			time.Sleep(10 * time.Millisecond) // this process probably has no free descriptors
			continue
		}
		s.tasks.Go(func(ctx context.Context) error {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			s.welcome(conn)
			return nil
		})
	}
}

// welcome reads the identity of a station that connected.
func (s *Station) welcome(conn *net.UnixConn) {
	hello := make([]byte, 256)
	conn.SetReadDeadline(time.Now().Add(helloWait))
	n, err := conn.Read(hello)
	var c Card
	if err == nil {
		c, err = parseCard(string(hello[:n]))
	}
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			s.cfg.Logf("a station did not identify itself: %v", err)
		}
		conn.Close()
		return
	}
	conn.SetReadDeadline(time.Time{})
	s.add(c, conn)
}

// Lookup returns the address of the station with the given name, which may be this station.
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

// Has reports whether another station has this MAC.
func (s *Station) Has(to MAC) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byMAC[to] != nil
}

// Send sends a frame, given in pieces, to the station with the given MAC, or to all stations if the
// MAC is multicast. It does not block: if a queue is full, the frame is dropped.
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

// Close leaves the network and waits until the station's goroutines have ended.
func (s *Station) Close() error {
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

// Card identifies a station to the other stations of a network.
type Card struct {
	Name string // 1 to 63 characters from a-z, 0-9 and '-', without '-' at the start; unique
	MAC  MAC    // unique
	Addr netip.Addr
}

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) group() bool { return m[0]&1 != 0 }

// String returns the card as one line, without newline.
func (c Card) String() string { return fmt.Sprintf("%s %x %s", c.Name, c.MAC, c.Addr) }

func parseCard(s string) (Card, error) {
	w := append(strings.Fields(s), "", "", "")
	mac, macErr := hex.DecodeString(w[1])
	a, addrErr := netip.ParseAddr(w[2])
	if macErr != nil || addrErr != nil || w[3] != "" || !isName(w[0]) || len(mac) != len(MAC{}) {
		return Card{}, fmt.Errorf("%.200q is not a station", s)
	}
	return Card{w[0], MAC(mac), a}, nil
}

var isName = regexp.MustCompile("^[a-z0-9][a-z0-9-]{0,62}$").MatchString
