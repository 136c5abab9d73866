"""What the sample sites say, in five languages. Every person, place, court and event is invented."""

from dataclasses import dataclass
from random import Random

LANGUAGES = ("be", "ru", "uk", "pl", "en")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tongue:
    """One language's stock: {name}, {town}, {days} and {age} are filled in."""

    names: tuple[str, ...]
    towns: tuple[str, ...]
    titles: tuple[str, ...]
    news: tuple[str, ...]
    more: tuple[str, ...]
    months: tuple[str, ...]
    correction: str


BE = Tongue(
    names=(
        "Алесь Узорны",
        "Янка Прыкладовіч",
        "Марыля Ўзорная",
        "Рыгор Выдуманец",
        "Паўліна Неіснуйка",
        "Тодар Ліпавіч",
    ),
    towns=("Ліпавічы", "Саснаўка-Новая", "Зарэчанск", "Малая Ўзорня"),
    titles=(
        "Затрыманне ў горадзе {town}: што вядома",
        "{name}: суд прызначыў {days} сутак арышту",
        "Ператрус у рэдакцыі ў горадзе {town}",
        "Праваабаронцы пра затрыманні ў горадзе {town}",
    ),
    news=(
        "У горадзе {town} раніцай затрымалі чалавека: гэта {name}, {age} гадоў. Сваякі не ведаюць, дзе ён утрымліваецца.",
        "Сёння суд горада {town} разгледзеў справу: {name}. Вынік: {days} сутак адміністрацыйнага арышту.",
        "Сілавікі прыйшлі з ператрусам да чалавека на імя {name}. Забралі тэлефоны, ноўтбук і кнігі. Горад: {town}.",
        "Стала вядома пра збіццё падчас затрымання. Пацярпелы: {name}, {age} гадоў. Медыкі зафіксавалі пераломы.",
        "Пасля {days} сутак у ізалятары на волю выйшла асоба: {name}. Умовы ўтрымання былі цяжкія: без матраца і лекаў.",
        "Шукаем сведкаў: у горадзе {town} каля рынку людзі ў масках пасадзілі ў бус некалькі мінакоў.",
    ),
    more=(
        "Праваабаронцы звязаліся са сваякамі і пацвердзілі звесткі. Імёны сведкаў не раскрываюцца дзеля іх бяспекі.",
        "Паводле сведкаў, затрыманне доўжылася каля дзесяці хвілін, людзі ў цывільным не назвалі сябе і не паказалі дакументаў.",
        "Адвакат патрапіў да затрыманага толькі на трэці дзень, скаргу на ўмовы ўтрымання суд пакінуў без разгляду.",
        "У мясцовай управе на тэлефонныя званкі не адказалі. Мы будзем сачыць за гэтай справай і паведамляць пра яе ход.",
        "Гэта ўжо чацвёрты выпадак з пачатку месяца, калі ў гэтым раёне затрымліваюць людзей пасля працы.",
    ),
    months=(
        "студзеня",
        "лютага",
        "сакавіка",
        "красавіка",
        "траўня",
        "чэрвеня",
        "ліпеня",
        "жніўня",
        "верасня",
        "кастрычніка",
        "лістапада",
        "снежня",
    ),
    correction="Абноўлена: паводле сваякоў, чалавека ўжо адпусцілі.",
)
RU = Tongue(
    names=("Олег Примеров", "Инна Выдуманова", "Фёдор Образцов", "Зоя Несуществуева", "Тимур Условный", "Вера Липович"),
    towns=("Липовичи", "Сосновка-Новая", "Заречанск", "Малый Образец"),
    titles=(
        "Задержание в городе {town}: что известно",
        "{name}: суд назначил {days} суток ареста",
        "Обыск в редакции в городе {town}",
        "Правозащитники о задержаниях в городе {town}",
    ),
    news=(
        "В городе {town} утром задержали человека: это {name}, {age} лет. Родные не знают, где он содержится.",
        "Сегодня суд города {town} рассмотрел дело: {name}. Итог: {days} суток административного ареста.",
        "Силовики пришли с обыском к человеку по имени {name}. Изъяли телефоны, ноутбук и книги. Город: {town}.",
        "Стало известно об избиении при задержании. Пострадавший: {name}, {age} лет. Медики зафиксировали переломы.",
        "После {days} суток в изоляторе на свободу вышел человек: {name}. Условия были тяжёлые: без матраса и лекарств.",
        "Ищем свидетелей: в городе {town} возле рынка люди в масках посадили в микроавтобус нескольких прохожих.",
    ),
    more=(
        "Правозащитники связались с родственниками и подтвердили сведения. Имена свидетелей не раскрываются ради их безопасности.",
        "По словам очевидцев, задержание длилось около десяти минут, люди в штатском не представились и не показали документов.",
        "Адвокат попал к задержанному только на третий день, жалобу на условия содержания суд оставил без рассмотрения.",
        "В местной управе на телефонные звонки не ответили. Мы будем следить за этим делом и сообщать о его ходе.",
        "Это уже четвёртый случай с начала месяца, когда в этом районе задерживают людей после работы.",
    ),
    months=(
        "января",
        "февраля",
        "марта",
        "апреля",
        "мая",
        "июня",
        "июля",
        "августа",
        "сентября",
        "октября",
        "ноября",
        "декабря",
    ),
    correction="Обновлено: по словам родных, человека уже отпустили.",
)
UK = Tongue(
    names=("Остап Прикладенко", "Ганна Вигадана", "Юрко Зразковий", "Леся Неіснуюча", "Максим Умовний", "Софія Липова"),
    towns=("Липовичі", "Соснівка-Нова", "Зарічанськ", "Мала Зразківка"),
    titles=(
        "Затримання в місті {town}: що відомо",
        "{name}: суд призначив {days} діб арешту",
        "Обшук у редакції в місті {town}",
        "Правозахисники про затримання в місті {town}",
    ),
    news=(
        "У місті {town} вранці затримали людину: це {name}, {age} років. Рідні не знають, де її утримують.",
        "Сьогодні суд міста {town} розглянув справу: {name}. Підсумок: {days} діб адміністративного арешту.",
        "Силовики прийшли з обшуком до людини на ім'я {name}. Забрали телефони, ноутбук і книжки. Місто: {town}.",
        "Стало відомо про побиття під час затримання. Постраждала людина: {name}, {age} років. Медики зафіксували переломи.",
        "Після {days} діб в ізоляторі на волю вийшла людина: {name}. Умови були важкі: без матраца та ліків.",
        "Шукаємо свідків: у місті {town} біля ринку люди в масках посадили в мікроавтобус кількох перехожих.",
    ),
    more=(
        "Правозахисники зв'язалися з родичами й підтвердили відомості. Імена свідків не розкривають заради їхньої безпеки.",
        "За словами очевидців, затримання тривало близько десяти хвилин, люди в цивільному не назвали себе й не показали документів.",
        "Адвокат потрапив до затриманого лише на третій день, скаргу на умови утримання суд залишив без розгляду.",
        "У місцевій управі на телефонні дзвінки не відповіли. Ми стежитимемо за цією справою й повідомлятимемо про її перебіг.",
        "Це вже четвертий випадок від початку місяця, коли в цьому районі затримують людей після роботи.",
    ),
    months=(
        "січня",
        "лютого",
        "березня",
        "квітня",
        "травня",
        "червня",
        "липня",
        "серпня",
        "вересня",
        "жовтня",
        "листопада",
        "грудня",
    ),
    correction="Оновлено: за словами рідних, людину вже відпустили.",
)
PL = Tongue(
    names=(
        "Jan Przykładowski",
        "Ewa Wymyślona",
        "Piotr Wzorcowy",
        "Zofia Nieistniejąca",
        "Marek Umowny",
        "Alicja Lipowicz",
    ),
    towns=("Lipowicze", "Sosnówka Nowa", "Zarzeczańsk", "Mały Wzór"),
    titles=(
        "Zatrzymanie w mieście {town}: co wiadomo",
        "{name}: sąd orzekł {days} dni aresztu",
        "Przeszukanie redakcji w mieście {town}",
        "Obrońcy praw człowieka o zatrzymaniach w mieście {town}",
    ),
    news=(
        "W mieście {town} rano zatrzymano osobę: to {name}, lat {age}. Rodzina nie wie, gdzie jest przetrzymywana.",
        "Dzisiaj sąd miasta {town} rozpatrzył sprawę: {name}. Wynik: {days} dni aresztu administracyjnego.",
        "Funkcjonariusze przeprowadzili przeszukanie. Osoba: {name}. Zabrano telefony, laptop i książki. Miasto: {town}.",
        "Wiadomo już o pobiciu podczas zatrzymania. Poszkodowana osoba: {name}, lat {age}. Lekarze stwierdzili złamania.",
        "Po {days} dniach w izolatce na wolność wyszła osoba: {name}. Warunki były ciężkie: bez materaca i leków.",
        "Szukamy świadków: w mieście {town} koło targu zamaskowani ludzie wsadzili do busa kilku przechodniów.",
    ),
    more=(
        "Obrońcy praw człowieka skontaktowali się z rodziną i potwierdzili te informacje. Nazwisk świadków nie podajemy.",
        "Według świadków zatrzymanie trwało około dziesięciu minut, ludzie po cywilnemu nie przedstawili się ani nie pokazali dokumentów.",
        "Adwokat dotarł do zatrzymanego dopiero trzeciego dnia, a skargę na warunki sąd pozostawił bez rozpoznania.",
        "W miejscowym urzędzie nikt nie odebrał telefonu. Będziemy śledzić tę sprawę i informować o jej przebiegu.",
        "To już czwarty przypadek od początku miesiąca, gdy w tej dzielnicy zatrzymuje się ludzi po pracy.",
    ),
    months=(
        "stycznia",
        "lutego",
        "marca",
        "kwietnia",
        "maja",
        "czerwca",
        "lipca",
        "sierpnia",
        "września",
        "października",
        "listopada",
        "grudnia",
    ),
    correction="Aktualizacja: według rodziny osoba została już zwolniona.",
)
EN = Tongue(
    names=("Adam Sampleton", "Clara Madeupson", "Peter Exemplar", "Nora Fictive", "Mark Placeholder", "Iris Lipovich"),
    towns=("Lipavichy", "Sasnauka Novaya", "Zarechansk", "Little Example"),
    titles=(
        "Detention in {town}: what is known",
        "{name}: court orders {days} days of arrest",
        "Newsroom searched in {town}",
        "Rights defenders on the detentions in {town}",
    ),
    news=(
        "A person was detained in {town} this morning: {name}, aged {age}. Relatives do not know where they are held.",
        "The court of {town} heard the case of {name} today. Outcome: {days} days of administrative arrest.",
        "Officers searched the home of {name}. They took telephones, a laptop and books. Town: {town}.",
        "A beating during detention has become known. The victim is {name}, aged {age}. Doctors recorded fractures.",
        "After {days} days in the detention centre {name} was released. Conditions were hard: no mattress, no medicine.",
        "We are looking for witnesses: near the market of {town} masked men put several passers-by into a van.",
    ),
    more=(
        "Rights defenders spoke with the family and confirmed the account. Witnesses are not named, for their safety.",
        "According to witnesses the detention took about ten minutes; the men in plain clothes showed no papers.",
        "The lawyer reached the detainee only on the third day; the court left the complaint about conditions unheard.",
        "Nobody answered the telephone at the local office. We will follow this case and report on its course.",
        "It is the fourth case since the beginning of the month of people being detained in this district after work.",
    ),
    months=(
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    correction="Updated: according to relatives the person has been released.",
)
TONGUES = {"be": BE, "ru": RU, "uk": UK, "pl": PL, "en": EN}


def _filled(text: str, tongue: Tongue, random: Random) -> str:
    return text.format(
        name=random.choice(tongue.names),
        town=random.choice(tongue.towns),
        days=random.choice((7, 10, 13, 15, 25)),
        age=random.randrange(35, 69) // 10 * 10 + random.choice((5, 6, 7, 8, 9)),
    )


def message(seed: str, language: str) -> str:
    """Write a channel's message of one to three sentences."""
    random, tongue = Random(seed), TONGUES[language]
    lines = [_filled(random.choice(tongue.news), tongue, random)]
    lines += random.sample(tongue.more, random.randrange(3))
    return "\n".join(lines)


def headline(seed: str, language: str) -> str:
    """Write an article's title."""
    random, tongue = Random(seed), TONGUES[language]
    return _filled(random.choice(tongue.titles), tongue, random)


def paragraphs(seed: str, language: str) -> tuple[str, ...]:
    """Write an article's six paragraphs."""
    random, tongue = Random(seed), TONGUES[language]
    first = [_filled(text, tongue, random) for text in random.sample(tongue.news, 3)]
    rest = random.sample(tongue.more, 5)
    return (first[0], rest[0], f"{first[1]} {rest[1]}", rest[2], f"{first[2]} {rest[3]}", rest[4])
