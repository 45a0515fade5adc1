package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"strings"
	"time"
)

// transferBytes is how much each transfer moves; the guest's dd counts in MiB.
const transferBytes = 64 << 20

// packetUnit is the unit of a transfer over the network.
const packetUnit = "packets"

// transfer is one way to move data between host and guest. Its command prints nothing on the
// console and connects to HOST, which is "ADDRESS PORT". The measurement starts when it connects.
type transfer struct {
	name    string
	unit    string // the unit that is counted
	command string
	file    string                                 // the guest's file that then contains the data
	fresh   bool                                   // the file is new and its checksum unknown
	host    func(conn net.Conn, data []byte) error // the host's end; nil if it is the disk's image
}

// sum is a SHA-256 checksum in hexadecimal.
type sum string

// transfers are in this order because later ones use the files that earlier ones wrote.
var transfers = []transfer{
	{
		name: "network, host to guest", unit: packetUnit,
		command: "nc HOST -e dd of=/tmp/a bs=64k 2> /dev/null", file: "/tmp/a", fresh: true, host: send,
	},
	{
		name: "network, guest to host", unit: packetUnit,
		command: "nc HOST -e dd if=/tmp/a bs=64k 2> /dev/null", file: "/tmp/a", host: receive,
	},
	{
		name: "disk, write and sync", unit: "requests",
		command: "nc HOST < /dev/null; dd if=/tmp/a of=/dev/sda bs=1M conv=fsync 2> /dev/null", file: "/tmp/a",
	},
	{
		name: "disk, read", unit: "requests",
		command: "echo 3 > /proc/sys/vm/drop_caches; " +
			"nc HOST < /dev/null; dd if=/dev/sda of=/tmp/b bs=1M count=64 2> /dev/null", file: "/tmp/b", fresh: true,
	},
}

// receive reads exactly data from the guest.
func receive(conn net.Conn, data []byte) error {
	if _, err := io.ReadFull(conn, data); err != nil {
		return err
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("received more than %d bytes (%v)", len(data), err)
	}
	return nil
}

// send sends data to the guest.
func send(conn net.Conn, data []byte) error {
	_, err := conn.Write(data)
	return err
}

func checksum(data []byte) sum { return sum(fmt.Sprintf("%x", sha256.Sum256(data))) }

// imageChecksum returns the checksum of the beginning of the disk's image.
func imageChecksum(image string) (sum, error) {
	f, err := os.Open(image)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data := make([]byte, transferBytes)
	if _, err := io.ReadFull(f, data); err != nil {
		return "", err
	}
	return checksum(data), nil
}

// result is the result of one transfer.
type result struct {
	transfer
	took time.Duration
	counters
	host, guest sum
}

func (r result) matches() bool { return r.host == r.guest && r.host != "" }

// units returns how many packets or requests the transfer took.
func (r result) units() uint64 {
	if r.unit == packetUnit {
		return r.packets
	}
	return r.requests
}

// bench makes and measures transfers.
type bench struct {
	m        *machine
	name     string // the machine's
	address  string // the tap's, with the prefix length
	image    string // the disk's
	listener net.Listener
	sums     map[string]sum // checksums of the guest's files, as the guest reports them
}

// do makes one transfer. The guest reports the transfer's start and end by connecting to the host,
// not on the console, because each character on the console causes an exit to user space.
func (b *bench) do(ctx context.Context, t transfer) (r result, err error) {
	addr := b.listener.Addr().(*net.TCPAddr)
	host := fmt.Sprintf("%v %d", addr.IP, addr.Port)
	if err := b.m.start(ctx, strings.ReplaceAll(t.command+"; nc HOST < /dev/null", "HOST", host)); err != nil {
		return r, err
	}
	data := make([]byte, transferBytes)
	var seed [32]byte // random, so that the data cannot be mistaken for data of earlier runs
	rand.Read(seed[:])
	mathrand.NewChaCha8(seed).Read(data)
	if r, err = b.measure(ctx, t, data); err != nil {
		return r, err
	}
	if _, err := b.m.finish(ctx); err != nil {
		return r, err
	}
	if t.host != nil {
		r.host = checksum(data)
	} else if r.host, err = imageChecksum(b.image); err != nil {
		return r, err
	}
	if t.fresh {
		out, err := b.m.run(ctx, "sha256sum "+t.file)
		if err != nil {
			return r, err
		}
		first, _, _ := strings.Cut(out, " ")
		b.sums[t.file] = sum(first)
	}
	r.guest = b.sums[t.file]
	return r, nil
}

// measure measures the transfer between the guest's two connections.
func (b *bench) measure(ctx context.Context, t transfer, data []byte) (r result, err error) {
	conn, err := b.accept(ctx)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	before, err := b.count(ctx)
	if err != nil {
		return r, err
	}
	start := time.Now()
	if t.host != nil {
		if err := t.host(conn, data); err != nil {
			return r, err
		}
	}
	// The guest's command waits until the connection is closed.
	if err := conn.Close(); err != nil {
		return r, err
	}
	end, err := b.accept(ctx)
	if err != nil {
		return r, err
	}
	defer end.Close()
	took := time.Since(start)
	after, err := b.count(ctx)
	return result{transfer: t, took: took, counters: after.since(before)}, err
}

// accept waits for a connection from the guest. When ctx is done, it closes the listener.
func (b *bench) accept(ctx context.Context) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { b.listener.Close() })()
	conn, err := b.listener.Accept()
	if err != nil {
		return nil, fmt.Errorf("waiting for the guest's connection: %w", err)
	}
	return conn, nil
}
