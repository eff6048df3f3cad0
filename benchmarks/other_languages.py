"""Sentences in languages that nobody drafts for, written for this project."""

__all__ = ["SENTENCES"]

SENTENCES = {
    "ko": (
        "어제 저녁에 친구와 함께 강가를 오래 걸었습니다.",
        "이 마을의 도서관은 주말에도 문을 엽니다.",
        "비가 많이 와서 기차가 두 시간 늦게 도착했어요.",
        "할머니는 아침마다 정원에 물을 주십니다.",
        "새로운 다리가 내년 봄에 완성될 예정입니다.",
        "아이들이 학교 운동장에서 축구를 하고 있다.",
    ),
    "ar": (
        "ذهبنا مساء أمس إلى السوق القديم واشترينا الخبز والزيتون.",
        "تفتح المكتبة أبوابها كل يوم عند الساعة التاسعة صباحا.",
        "تأخر القطار ساعتين بسبب الأمطار الغزيرة.",
        "يلعب الأطفال كرة القدم في ساحة المدرسة.",
        "سيكتمل بناء الجسر الجديد في الربيع المقبل.",
        "تسقي جدتي الحديقة كل صباح قبل شروق الشمس.",
    ),
    "da": (
        "I går aftes gik vi en lang tur langs åen og talte om arbejdet.",
        "Biblioteket i landsbyen har også åbent i weekenden.",
        "Toget kom to timer for sent på grund af den kraftige regn.",
        "Min bedstemor vander haven hver morgen, før solen står op.",
        "Den nye bro over fjorden bliver færdig til næste forår.",
        "Børnene spiller fodbold i skolegården efter frokost.",
    ),
    "sw": (
        "Jana jioni tulitembea kando ya mto tukizungumza kuhusu kazi.",
        "Maktaba ya kijiji chetu hufunguliwa hata mwishoni mwa wiki.",
        "Treni ilichelewa kwa saa mbili kwa sababu ya mvua kubwa.",
        "Bibi yangu humwagilia bustani maji kila asubuhi.",
        "Daraja jipya litakamilika mwaka ujao wakati wa mvua za masika.",
        "Watoto wanacheza mpira katika uwanja wa shule baada ya chakula.",
    ),
}
