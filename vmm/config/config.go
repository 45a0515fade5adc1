package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Config is the configuration of one virtual machine, resolved: paths are absolute, defaults are
// filled in, and everything that can be checked without changing the host is checked. Create one
// with [Resolve] or [Parse].
type Config struct {
	Name    Name    `toml:"name"`
	Image   Image   `toml:"image,omitempty"` // empty: none
	Machine Machine `toml:"machine"`
	Boot    Boot    `toml:"boot"`
	Console Console `toml:"console"`
	Net     []Net   `toml:"net,omitempty"`
	Disk    []Disk  `toml:"disk,omitempty"`
	SCSI    SCSI    `toml:"scsi"`
	Workers Workers `toml:"workers"`

	Limits     Limits     `toml:"limits,omitempty"`
	Rlimits    Rlimits    `toml:"rlimits,omitempty"`
	Namespaces Namespaces `toml:"namespaces,omitempty"`
}

// Machine describes the machine itself: its size, its shutdown behavior and how drivers access PCI.
type Machine struct {
	VCPUs           int      `toml:"vcpus"`            // 1 to 64
	Memory          Size     `toml:"memory"`           // guest RAM in bytes: 64M to 1T, a multiple of 4096
	ShutdownTimeout Duration `toml:"shutdown_timeout"` // from pressing the power button to stopping the guest by force; 0 to 1 h
	PCIPorts        bool     `toml:"pci_ports"`        // PCI configuration space at ports 0xcf8 and 0xcfc, in addition to ECAM
	Notify          Notify   `toml:"notify"`           // where drivers write to notify a device
}

// Boot is the kernel, initrd and command line that the guest boots.
type Boot struct {
	Kernel  Kernel  `toml:"kernel,omitempty"`
	Initrd  Path    `toml:"initrd,omitempty"`  // empty: minivmm's own initrd for a kernel from the store, no initrd for a kernel file
	Cmdline Cmdline `toml:"cmdline,omitempty"` // appended to minivmm's own parameters

	// Protocol is how the kernel is entered. With KASLR, a bzImage unpacks itself in the guest and
	// randomises its load address.
	Protocol BootProtocol `toml:"protocol"`
	KASLR    bool         `toml:"kaslr"`
}

// Console is where the guest's first serial port goes.
type Console struct {
	Mode ConsoleMode `toml:"mode"`
	Path Path        `toml:"path,omitempty"` // set exactly when Mode is ConsoleFile
	Size Size        `toml:"size,omitzero"`  // maximum bytes: a full file is renamed to PATH.1; 0: the default size
}

// Net is one network device.
type Net struct {
	ID        Name       `toml:"id"` // unique among Net
	Backend   NetBackend `toml:"backend"`
	Tap       IfName     `toml:"tap,omitempty"`       // an existing tap; empty: a tap is created when the machine starts and removed when the machine stops
	MAC       MAC        `toml:"mac"`                 // the guest's MAC address; unique among Net
	MTU       int        `toml:"mtu,omitzero"`        // reported to the guest: 68 to 65535; 0: the tap's MTU
	Address   CIDR       `toml:"address,omitempty"`   // the host's address on a tap that minivmm creates; unset: no address
	Bridge    IfName     `toml:"bridge,omitempty"`    // an existing bridge that a tap created by minivmm joins; empty: no bridge
	Ports     []Port     `toml:"ports,omitempty"`     // host ports forwarded to the guest, with NetUser
	Queues    Queues     `toml:"queues"`              // queue pairs
	QueueSize int        `toml:"queue_size"`          // entries of each ring: a power of two, 32 to 1024
	Affinity  CPUSet     `toml:"affinity,omitempty"`  // CPUs of its workers; empty: Workers.Affinity
	BusyPoll  Duration   `toml:"busy_poll,omitempty"` // how long a worker polls for work before it sleeps; 0 to 1 s

	// The following fields require NetUser.
	Network  Name          `toml:"network,omitempty"`  // a network shared by the machines of one user, or Isolated; empty: none
	Allow    []Destination `toml:"allow,omitempty"`    // empty: everything that Deny does not match
	Deny     []Destination `toml:"deny,omitempty"`     // takes precedence over Allow
	DNS      DNS           `toml:"dns,omitempty"`      // which names are resolved; empty: DNSAuto
	Pcap     Path          `toml:"pcap,omitempty"`     // capture file of the packets the guest sends and receives; empty: none
	PcapSize Size          `toml:"pcap_size,omitzero"` // maximum bytes of the capture; 0: the default size
}

// Disk is one disk: a logical unit of the machine's SCSI controller. The first is the guest's sda.
type Disk struct {
	ID        Name        `toml:"id"`   // unique among Disk
	Path      Path        `toml:"path"` // a regular file or a block device; unique among Disk
	Backend   DiskBackend `toml:"backend"`
	ReadOnly  bool        `toml:"readonly"`
	Serial    Serial      `toml:"serial"` // unique among Disk; its first 25 hexadecimal digits must also be unique
	Cache     Cache       `toml:"cache"`
	BlockSize int         `toml:"block_size"` // bytes: 512 or 4096
}

// SCSI is the SCSI controller that all disks share.
type SCSI struct {
	Queues    Queues `toml:"queues"`             // request queues
	QueueSize int    `toml:"queue_size"`         // entries of each ring: a power of two, 32 to 1024
	Affinity  CPUSet `toml:"affinity,omitempty"` // CPUs of its workers; empty: Workers.Affinity
}

// Limits of the schema, also listed in docs/configuration.md; see bounds.
const (
	minMemory    = 64 << 20
	maxMemory    = 1 << 40
	pageSize     = 4096
	maxShutdown  = time.Hour
	maxNets      = 16   // each occupies one of 31 PCI slots
	maxPorts     = 1024 // host ports; every port of a range counts
	maxDisks     = 64   // logical units of one target
	minQueueSize = 32
	maxQueueSize = 1024
	maxQueues    = 64 // below 128, the default of vhost_scsi.max_io_vqs
)

// bounds are the smallest and the largest allowed value of each numeric key.
var bounds = map[string][2]int64{
	"machine.vcpus":     {1, 64},
	"net.mtu":           {68, 65535}, // RFC 791; virtio 1.2 §5.1.4
	"workers.nice":      {minNice, maxNice},
	"limits.cpu_weight": {1, maxWeight},
	"limits.io_weight":  {1, maxWeight},
	"limits.vcpu_share": {1, maxWeight},
	"limits.io_share":   {1, maxWeight},
	"limits.pids_max":   {1, 1 << 22}, // PID_MAX_LIMIT
	"rlimits.nproc":     {1, 1 << 22},
	"rlimits.nofile":    {64, 1 << 30}, // a machine cannot start with fewer
}

// samples are the example values that messages show for types that are read from a string.
var samples = map[reflect.Type]string{
	reflect.TypeFor[CPUSet]():      "2-3,5",
	reflect.TypeFor[Destination](): "10.0.0.0/8",
	reflect.TypeFor[Duration]():    "10s",
	reflect.TypeFor[Percent]():     "150%",
	reflect.TypeFor[IOLimit]():     "/dev/vda weight=50 read_bps=10M",
	reflect.TypeFor[MAC]():         "52:54:00:12:34:56",
	reflect.TypeFor[NetNS]():       "new",
	reflect.TypeFor[IfName]():      "tap0",
	reflect.TypeFor[CIDR]():        "10.0.2.1/24",
	reflect.TypeFor[Port]():        "8080:80",
	reflect.TypeFor[Queues]():      "auto",
	reflect.TypeFor[Size]():        "512M",
	reflect.TypeFor[WorkerCount](): "per-queue",
}

// choices are the allowed values of those string types that allow only a fixed set of values.
var choices = map[reflect.Type][]string{
	reflect.TypeFor[Notify]():       {"auto", "ports", "memory"},
	reflect.TypeFor[BootProtocol](): {"auto", "linux64", "pvh"},
	reflect.TypeFor[ConsoleMode]():  {"stdio", "null", "file"},
	reflect.TypeFor[NetBackend]():   {"auto", "vhost", "user"},
	reflect.TypeFor[DNS]():          {"auto", "on", "off"},
	reflect.TypeFor[DiskBackend]():  {"auto", "vhost-scsi", "inprocess"},
	reflect.TypeFor[Cache]():        {"writeback", "writethrough"},
}

// The defaults of each table. Defaults that depend on a name or on the position in a list are in
// derive.go.

func (c *Config) setDefaults() {
	c.Machine = Machine{VCPUs: 1, Memory: 256 << 20, ShutdownTimeout: Duration{10 * time.Second}, Notify: NotifyAuto}
	c.Boot = Boot{Protocol: ProtocolAuto}
	c.Console = Console{Mode: ConsoleStdio}
	c.SCSI = SCSI{Queues: 1, QueueSize: 128}
	c.Workers.setDefaults()
}

func (n *Net) setDefaults() {
	*n = Net{Backend: NetAuto, Queues: 1, QueueSize: 256}
}

func (d *Disk) setDefaults() {
	*d = Disk{Backend: DiskAuto, Cache: CacheWriteback, BlockSize: 512}
}

// defaulter is an entry in a list of tables. An entry's defaults are set before its keys are read.
type defaulter interface{ setDefaults() }

// A Path names a file. In a Config it is absolute or empty.
type Path string

// A Kernel is an absolute path, "store:NAME" for a kernel in minivmm's store (minivmm kernel list),
// or empty for the default kernel of the store.
type Kernel string

const storePrefix = "store:"

// Stored returns the name of a kernel in the store; "" is the default kernel. ok is false for a
// path.
func (k Kernel) Stored() (name string, ok bool) {
	name, ok = strings.CutPrefix(string(k), storePrefix)
	return name, ok || k == ""
}

// An Image is an OCI image whose file tree is the guest's root: the absolute path of a layout or
// archive, "oci:PATH[:TAG]" with an absolute PATH, or a name in a registry.
type Image string

// ConsoleMode says where the guest's console goes.
type ConsoleMode string

const (
	ConsoleStdio ConsoleMode = "stdio" // the terminal, or whatever stdin and stdout are
	ConsoleNull  ConsoleMode = "null"  // nowhere
	ConsoleFile  ConsoleMode = "file"  // appended to Console.Path, up to Console.Size; no input
)

// BootProtocol says how the kernel is entered.
type BootProtocol string

const (
	ProtocolAuto    BootProtocol = "auto"    // linux64 if the image supports it, else pvh
	ProtocolLinux64 BootProtocol = "linux64" // at startup_64, with boot_params
	ProtocolPVH     BootProtocol = "pvh"     // at the address in the PVH note, with hvm_start_info
)

// Notify says where a driver writes to notify a device of work.
type Notify string

const (
	NotifyAuto   Notify = "auto"   // whichever costs less on this host
	NotifyPorts  Notify = "ports"  // an I/O port, or memory for a driver that does not use ports
	NotifyMemory Notify = "memory" // memory
)

// NetBackend says what carries a network device's packets.
type NetBackend string

const (
	NetAuto  NetBackend = "auto"  // the best available on the host
	NetVhost NetBackend = "vhost" // /dev/vhost-net; an error if unavailable
	NetUser  NetBackend = "user"  // a user-mode network in the minivmm process
)

// DNS says which names the gateway resolves for the guest. The gateway never resolves names in
// Net.Deny.
type DNS string

const (
	DNSAuto DNS = "auto" // the names in Net.Allow; if Net.Allow contains no names: all names, provided the guest may connect anywhere
	DNSOn   DNS = "on"   // all names
	DNSOff  DNS = "off"  // none
)

// DiskBackend says what serves a disk's requests.
type DiskBackend string

const (
	DiskAuto      DiskBackend = "auto"       // the best available on the host
	DiskVhostSCSI DiskBackend = "vhost-scsi" // /dev/vhost-scsi; an error if unavailable
	DiskInProcess DiskBackend = "inprocess"  // a SCSI target in minivmm; requires no access except to the disk
)

// DiskBackend returns the backend of all disks, which share one controller: the backend that a disk
// names explicitly, or DiskAuto if no disk does.
func (c *Config) DiskBackend() DiskBackend {
	for _, d := range c.Disk {
		if d.Backend != DiskAuto {
			return d.Backend
		}
	}
	return DiskAuto
}

// Cache says when a completed write is durable.
type Cache string

const (
	CacheWriteback    Cache = "writeback"    // when the guest flushes
	CacheWritethrough Cache = "writethrough" // when the write completes
)

// TOML returns a configuration file that resolves to c, with every default written out.
func (c *Config) TOML() []byte {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(c); err != nil {
		panic(fmt.Sprintf("config: a Config that cannot be written: %v", err))
	}
	return b.Bytes()
}
