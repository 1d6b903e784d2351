"""Names and things that the sample problems are about. Invented places, so nothing to look up."""

from __future__ import annotations

__all__ = [
    "CITIES",
    "COUNTRIES",
    "FIRST_NAMES",
    "ITEMS",
    "JOBS",
    "LAST_NAMES",
    "WORKS",
]


def _words(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(separator) if word.strip())


FIRST_NAMES = _words("""
    Ada Ben Carla Dmitri Elena Farid Grace Hugo Ines Jonas Kira Liam Mara Nadia Omar Petra Quinn
    Rosa Samir Tessa Umar Vera Wen Yara Zoe Aldo Bea Cem Dora Emil Fay Gil Hana Ivo Jun Kofi Lea
    Milo Nell Otto Pia Rafi Sana Theo Uma Vik Willa Xavi Yusuf Zara
""")
LAST_NAMES = _words("""
    Abara Berg Castell Dunmore Eklund Farrow Grimaldi Hollis Ibsen Jarrow Kessler Lindqvist
    Marsh Novak Okafor Pell Quill Rennick Sato Thorne Ulrich Vance Weller Xu Yates Zeller Ashby
    Brandt Corvin Delacy Eastman Fenn Garrick Hale
""")
CITIES = _words("""
    Arvend Belmora Cresk Dunlow Elvast Farrin Gostrel Havenport Ilmara Jasperton Kelvik Lorne
    Mirefield Norvale Ostra Pellam Quarrin Rivenna Solberg Tarnow Ulmen Vestry Wexcombe Yarrow
    Zimmel Ambry Brindle Corvale Drissel Edgemoor
""")
COUNTRIES = _words("""
    Veldria Morvania Kastoria Elbara Tarsis Orland Quenya Sardovia Belgorra Norsia Lumeria
    Palvia Drenmark Istavia Zendara Calbria Uristan Fendor Galtova Hestia
""")
JOBS = _words("""
    baker carpenter dentist farmer gardener librarian mechanic nurse painter pilot plumber
    potter tailor teacher vet welder
""")
ITEMS = _words("""
    apples marbles stickers pencils coins stamps books shells cards buttons beads ribbons
    magnets postcards candles cookies plums tiles
""")
WORKS = _words(
    """
    The Silent Orchard, Glass Harbour, A Winter Map, The Ninth Lantern, Paper Rivers,
    Salt and Ember, The Clockmaker's Door, Northern Lights Hotel, A Field of Crows,
    The Borrowed Hour, Iron Meadow, Letters to Nobody, The Quiet Engine, Blue Threshold,
    Seven Small Storms, The Amber Room Key, Midnight Ferry, The Long Staircase,
    A House of Reeds, Copper Moon
    """,
    ",",
)
