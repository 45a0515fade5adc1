package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"minivmm/internal/testbed/testenv"
)

// clientsVar names an image of a Debian system that contains the programs of TestRealClients.
const clientsVar = "MINIVMM_CLIENTS_DISK"

// realClients is a Debian guest on a network in process.
type realClients struct {
	*running
	world   *world
	dir     string // folder of the ssh connection's files
	control string // socket of the permanent connection
}

// TestRealClients tries common programs on the network in process, in one guest. The programs are
// Debian's; their servers are outside, in another network namespace.
func TestRealClients(t *testing.T) {
	testenv.Need(t, "kvm", "guests", "root", "clients-disk", "ssh", "iperf3")
	leavesNothing(t)
	disk := filepath.Join(t.TempDir(), "debian.img")
	if out, err := exec.Command("cp", "--sparse=always", os.Getenv(clientsVar), disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir, err := os.MkdirTemp("", "ssh") // a short path, as a socket requires
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &realClients{world: newWorld(t), dir: dir, control: filepath.Join(dir, "control")}
	c.running = typed(t, "--memory", "512M", "--disk", disk, "--cmdline", "root=/dev/sda",
		"--net", fmt.Sprintf("user,ports=%s:2222:22,,[%s]:2222:22", machine4, machine6))
	c.world.moveIn(t, c.cmd)
	c.start()
	c.expect("login: ")
	c.order("root", "# ")
	c.order("export LANG=C; stty cols 500; systemctl --failed --no-legend | wc -l | sed s/^/failed=/", `failed=0\s`)

	t.Run("systemd-networkd", c.networkd)
	c.connect(t)
	t.Run("ssh", c.ssh)
	t.Run("dig", c.dig)
	t.Run("ping", c.ping)
	t.Run("traceroute", c.traceroute)
	t.Run("curl", c.curl)
	t.Run("apt", c.apt)
	t.Run("iperf3", c.iperf3)
	t.Run("udhcpc", c.udhcpc)
	t.Run("dhclient", c.dhclient)

	// No one needs the disk any more, so its file systems may be left unclean.
	c.signal(syscall.SIGTERM)
	if _, err := c.log.Expect("power button"); err != nil {
		t.Error(err)
	}
	c.signal(syscall.SIGTERM)
	c.exits(128 + 15)
}

// sshArgs returns the arguments of a connection to one of the published ports.
func (c *realClients) sshArgs(address string, more ...string) []string {
	return append([]string{"-F", "none", "-i", filepath.Join(c.dir, "key"), "-p", "2222", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=" + filepath.Join(c.dir, "known"), "-o", "LogLevel=ERROR", "root@" + address}, more...)
}

// connect gives the test access to the guest and opens a permanent connection, which the following
// commands share.
func (c *realClients) connect(t *testing.T) {
	t.Helper()
	key := filepath.Join(c.dir, "key")
	output(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key)
	c.order("mkdir -p -m 700 /root/.ssh; echo '"+strings.TrimSpace(readFile(t, key+".pub"))+"' > /root/.ssh/authorized_keys && echo let''in", "letin")
	// The master's child stays, and keeps its output files open.
	cmd := exec.Command("ssh", c.sshArgs(machine4, "-M", "-N", "-f", "-S", c.control)...)
	if err := cmd.Run(); err != nil {
		t.Fatalf("ssh: %v", err)
	}
	t.Cleanup(func() { exec.Command("ssh", "-S", c.control, "-O", "exit", "guest").Run() })
}

// in runs a shell command in the guest and returns its output and exit code.
func (c *realClients) in(t *testing.T, command string) (string, int) {
	t.Helper()
	cmd := exec.Command("ssh", "-S", c.control, "-o", "BatchMode=yes", "-o", "ProxyCommand=false", "root@guest", "LANG=C; "+command)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("ssh: %v", err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// does runs a command that must succeed, with output that matches the patterns.
func (c *realClients) does(t *testing.T, command string, patterns ...string) string {
	t.Helper()
	out, code := c.in(t, command)
	if code != 0 {
		t.Errorf("%s: exit code %d: %s", command, code, out)
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			t.Errorf("%s: no %q in %s", command, p, out)
		}
	}
	return out
}

// fails runs a command that must return that exit code, with output that matches the patterns.
func (c *realClients) fails(t *testing.T, want int, command string, patterns ...string) {
	t.Helper()
	out, code := c.in(t, command)
	if code != want {
		t.Errorf("%s: exit code %d, want %d: %s", command, code, want, out)
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			t.Errorf("%s: no %q in %s", command, p, out)
		}
	}
}

// networkd: the disk's own DHCP client has configured the card from the lease and the
// advertisement. The guest cannot be reached by network yet.
func (c *realClients) networkd(t *testing.T) {
	c.order("NIC=$(ls /sys/class/net | grep -v '^lo$'); systemctl is-active systemd-networkd && networkctl status $NIC --no-pager -l -n 0; echo sta''tus", `active\s[^$]*routable[^$]*10\.0\.2\.15 \(DHCP4 via 10\.0\.2\.2\)[^$]*status`)
	c.order("ip -4 route show; echo rou''tes", `default via 10\.0\.2\.2 dev \S+ proto dhcp src 10\.0\.2\.15 [^$]*routes`)
	c.order("resolvectl dns $NIC; resolvectl domain $NIC; echo na''mes", `10\.0\.2\.2[^$]*names`)
	c.order("until ip -6 route show default | grep -q 'via fe80::2' && ip -6 addr show dev $NIC scope global -tentative | grep inet6; do sleep .1; done; echo six''th", `inet6 fd00:10:0:2:\S+/64[^$]*sixth`)
}

// ssh connects through published ports of IPv4 and IPv6, and transfers data in both directions.
func (c *realClients) ssh(t *testing.T) {
	c.fails(t, 7, "exit 7")
	data := make([]byte, 4<<20)
	rng := rand.NewChaCha8([32]byte{})
	rng.Read(data)
	cmd := exec.Command("ssh", c.sshArgs(machine6, "tee /tmp/all; sha256sum < /tmp/all >&2; echo $SSH_CLIENT >&2")...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data), &out, &errs
	if err := cmd.Run(); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%v: %d bytes of %d came back", err, out.Len(), len(data))
	}
	if want := fmt.Sprintf("%x  -\n10.0.2.2 ", sha256.Sum256(data)); !strings.HasPrefix(errs.String(), want) {
		t.Errorf("the guest prints %q, want %q", errs.String(), want)
	}
}

func (c *realClients) dig(t *testing.T) {
	const ask = "dig @10.0.2.2 +tries=1 +time=30 "
	c.does(t, ask+"+short "+worldName, `^10\.77\.0\.1\n$`)
	c.does(t, ask+"+short +tcp "+worldName, `^10\.77\.0\.1\n$`)
	c.does(t, ask+"+short AAAA "+worldName, `^2001:db8:77::1\n$`)
	c.does(t, ask+"nosuch.example.test", `status: NXDOMAIN`)
	c.does(t, ask+"+tcp nosuch.example.test", `status: NXDOMAIN`, `\(TCP\)`)
	// The answer is truncated, and dig asks again by TCP.
	long := c.does(t, ask+"TXT "+longName, `Truncated, retrying in TCP mode`, `status: NOERROR`)
	if n := strings.Count(long, "\tTXT\t"); n != 20 {
		t.Errorf("%d of 20 answers: %s", n, long)
	}
	c.does(t, "dig @fd00:10:0:2::2 +tries=1 +time=30 +short AAAA "+worldName, `^2001:db8:77::1\n$`)
	// This is how programs ask: through systemd-resolved.
	c.does(t, "getent ahosts "+worldName, `10\.77\.0\.1 +STREAM`)
}

func (c *realClients) ping(t *testing.T) {
	for _, to := range []string{"10.0.2.2", world4, worldName, "-s 1400 " + world4, "-s 4000 " + world4, "-6 " + world6} {
		c.does(t, "ping -c 2 -i 0.2 -W 60 "+to, `2 packets transmitted, 2 received, 0% packet loss`)
	}
	c.fails(t, 1, "ping -c 1 -w 3 "+nobody4, ` 0 received`)
	c.fails(t, 2, "ping -c 1 -w 5 nosuch.example.test", `not known`)
}

func (c *realClients) traceroute(t *testing.T) {
	for command, hops := range map[string][2]string{
		"traceroute -n -q 1 -w 60 -m 4 -N 1 " + world4:    {"10.0.2.2", world4},
		"traceroute -I -n -q 1 -w 60 -m 4 -N 1 " + world4: {"10.0.2.2", world4},
		"traceroute -n -q 1 -w 60 -m 4 -N 1 " + world6:    {"fd00:10:0:2::2", world6},
	} {
		out := c.does(t, command)
		want := fmt.Sprintf(`(?m)^ 1  %s +[0-9.]+ ms\n 2  %s +[0-9.]+ ms\n\z`, regexp.QuoteMeta(hops[0]), regexp.QuoteMeta(hops[1]))
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: %s", command, out)
		}
	}
}

// curl downloads and uploads by IPv4 and IPv6.
func (c *realClients) curl(t *testing.T) {
	for _, address := range []string{world4, world6} {
		url, sum := serveFile(t, address, 4<<20)
		c.does(t, "curl -gsS --fail -o /tmp/got "+url+" && sha256sum < /tmp/got", "^"+sum)
		c.does(t, "curl -gsS --fail -T /tmp/got "+url+"/", "^"+sum+"$")
		if address == world4 {
			c.does(t, "curl -sS --fail "+strings.Replace(url, world4, worldName, 1)+" | sha256sum", "^"+sum)
		}
	}
	c.fails(t, 7, "curl -sS http://"+world4+":1/", "refused|Couldn't connect")
}

// apt installs a package from a repository outside.
func (c *realClients) apt(t *testing.T) {
	from := repository(t, world4)
	c.does(t, "rm -rf /etc/apt/sources.list*; echo 'deb [trusted=yes] "+from+" ./' > /etc/apt/sources.list; apt-get update && apt-get install -y minivmm-hello",
		"Setting up minivmm-hello")
	c.does(t, "minivmm-hello", "^hello from a package\n$")
}

// iperf3 runs with one stream and with several, in both directions, and with datagrams.
func (c *realClients) iperf3(t *testing.T) {
	serveIperf3(t, world4)
	const each = 4 << 20
	for _, flags := range []string{"", "-R", "-P 4", "-P 4 -R", "-u -b 4M", "-u -b 4M -R"} {
		size := fmt.Sprintf("-n %d", each)
		if strings.HasPrefix(flags, "-u") {
			size = "-n 500K -l 1200"
		}
		out := c.does(t, "iperf3 -J -c "+world4+" "+flags+" "+size)
		var report struct {
			End struct {
				Sent     struct{ Bytes int64 } `json:"sum_sent"`
				Received struct{ Bytes int64 } `json:"sum_received"`
				Sum      struct {
					Bytes   int64
					Packets int
					Lost    int `json:"lost_packets"`
				}
			}
			Error string
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil || report.Error != "" {
			t.Errorf("iperf3 %s: %v %s: %s", flags, err, report.Error, out)
			continue
		}
		if e := report.End; strings.HasPrefix(flags, "-u") {
			// Datagrams beyond the queues may be lost, but a network that is not busy
			// loses hardly any.
			if e.Sum.Packets < 400 || e.Sum.Lost > e.Sum.Packets/10 {
				t.Errorf("iperf3 %s: %d of %d datagrams were lost", flags, e.Sum.Lost, e.Sum.Packets)
			}
		} else if e.Sent.Bytes < each || e.Received.Bytes == 0 {
			// The receiver counts until the sender reports the end; at that time
			// megabytes are still in buffers of guest, gateway and host.
			t.Errorf("iperf3 %s: %d bytes were sent and %d received", flags, e.Sent.Bytes, e.Received.Bytes)
		}
	}
}

// freeNIC removes the card and its configuration from systemd-networkd. The connection uses the
// card and cannot run these commands.
func (c *realClients) freeNIC() {
	c.order("systemctl stop systemd-networkd.socket systemd-networkd.service; ip addr flush dev $NIC; ip route flush table main; ip -4 addr show dev $NIC | grep -c inet | sed s/^/left=/", `left=0\s`)
}

// udhcpc is busybox's DHCP client. Debian's script for it reports the name server to
// systemd-resolved, through resolvconf(8).
func (c *realClients) udhcpc(t *testing.T) {
	c.freeNIC()
	c.order("udhcpc -i $NIC -n -q -f; echo udhc''pc=$?", `lease of 10\.0\.2\.15 obtained from 10\.0\.2\.2[^$]*udhcpc=0`)
	c.configured(t)
	c.does(t, "resolvectl dns; resolvectl domain", `10\.0\.2\.2`, `example\.test`)
}

// configured checks the result of a DHCP client's lease. The earlier connection continues, because
// the address and the network are the same.
func (c *realClients) configured(t *testing.T) {
	t.Helper()
	c.does(t, "ip -4 addr show; ip -4 route show", `inet 10\.0\.2\.15/24`, `default via 10\.0\.2\.2`)
	c.does(t, "ping -c 1 -W 60 "+world4, "1 received")
}

// dhclient is ISC's client, which also releases a lease.
func (c *realClients) dhclient(t *testing.T) {
	c.freeNIC()
	c.order("dhclient -1 -v $NIC; echo dhcl''ient=$?", `DHCPACK of 10\.0\.2\.15 from 10\.0\.2\.2[^$]*bound to 10\.0\.2\.15[^$]*dhclient=0`)
	c.configured(t)
	c.does(t, "cat /var/lib/dhcp/dhclient*.leases", `fixed-address 10\.0\.2\.15;`, `option routers 10\.0\.2\.2;`, `option domain-name-servers 10\.0\.2\.2;`, `option domain-search "example\.test`)
	c.order("dhclient -r -v $NIC; ip -4 addr show dev $NIC | grep -c inet | sed s/^/left=/", `DHCPRELEASE of 10\.0\.2\.15[^$]*left=0\s`)
	c.order("dhclient -1 $NIC; ip -4 addr show dev $NIC", `inet 10\.0\.2\.15/24`)
}
