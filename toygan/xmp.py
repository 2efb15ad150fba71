"""Writes and reads the XMP packet that marks a picture as synthetic.

Sources: IPTC Photo Metadata Standard 2023.1 (DigitalSourceType); GB 45438-2025 and TC260-PG-20258A (the
property AIGC); XMP Specification Part 1 for the packet.
"""

from typing import Final
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

DIGITAL_SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC_EXT: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_AIGC: Final = "http://www.tc260.org.cn/ns/AIGC/1.0/"
_SOURCE_PROPERTY: Final = f"{{{_IPTC_EXT}}}DigitalSourceType"
_AIGC_PROPERTY: Final = f"{{{_AIGC}}}AIGC"


def xmp_packet(aigc: str | None = None) -> bytes:
    """Returns a packet with the IPTC mark of generated pictures, and with the property AIGC if given."""
    label = f'<TC260:AIGC xmlns:TC260="{_AIGC}">{escape(aigc)}</TC260:AIGC>' if aigc is not None else ""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC_EXT}">'
        f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"{label}</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="r"?>'
    ).encode()


def digital_source_type(packet: bytes) -> str | None:
    """Returns the IPTC DigitalSourceType of a packet; None if there is none, or the packet is damaged."""
    return _property(packet, _SOURCE_PROPERTY)


def aigc_label(packet: bytes) -> str | None:
    """Returns the text of the property AIGC of a packet; None if there is none, or the packet is damaged."""
    return _property(packet, _AIGC_PROPERTY)


def _property(packet: bytes, name: str) -> str | None:
    try:
        root: Element = fromstring(packet.rstrip(b"\x00 "))
    except (ParseError, DefusedXmlException, ValueError):
        return None
    for element in root.iter():
        # In XMP a property may be an attribute, an element with a text or an element with a resource.
        if name in element.attrib:
            return element.attrib[name].strip()
        if element.tag == name:
            return (element.attrib.get(f"{{{_RDF}}}resource") or element.text or "").strip() or None
    return None
